"""The parent's half of a helper process in a thread that waits for it."""

import subprocess

from heylook_llm.errors import Overloaded
from heylook_llm.helper import starting
from heylook_llm.helper.starting import OUTPUT_BYTES, WALL_SECONDS


def run(module: str, data: bytes) -> bytes:
    """What `python -m module` writes when it reads `data`. Raises starting.Exhausted, starting.Broken, Overloaded."""
    with subprocess.Popen(
        starting.command(module),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=starting.environment(),
        cwd="/",
    ) as process:
        starting.give_way(process.pid)
        try:
            output, _ = process.communicate(data, WALL_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise Overloaded(starting.BUSY) from error
        finally:
            process.kill()
    return starting.output_of(process.returncode, output, OUTPUT_BYTES)
