"""Kept runs of the bench on the command line: listed, shown, cancelled, deleted; nothing that sends is imported."""

import datetime
import json

import click

from heylook_llm.bench import told
from heylook_llm.bench.remarks import counted
from heylook_llm.bench.sample import ENDED, Run
from heylook_llm.bench.store import Store
from heylook_llm.commands import state
from heylook_llm.errors import Conflict

# ---- looking ---------------------------------------------------------------------------------------------------------


def listed(limit: int, as_json: bool) -> None:
    """The runs, newest first."""
    with Store(state.bench_file()) as store:
        runs = [told.current(store, made) for made in store.runs(limit)]
        if as_json:
            click.echo(json.dumps([told.brief(store, made) for made in runs]))
            return
        if not runs:
            click.echo("There are no runs yet; `heylookllm bench` makes one.")
        for place, made in enumerate(runs, 1):
            brief = told.brief(store, made)
            when = datetime.datetime.fromtimestamp(made.created).strftime("%Y-%m-%d %H:%M")
            name = f"  {made.name}" if made.name else ""
            targets = ", ".join(brief["targets"])
            click.echo(
                f"@{place:<3} {made.id[-8:]}  {when}  {made.state:<11} {counted(brief['cells'], 'cell'):>9} "
                f"{counted(brief['samples'], 'sample'):>14}  {targets}{name}"
            )


def show(name: str, as_json: bool) -> None:
    """One run."""
    with Store(state.bench_file()) as store:
        tell(store, told.current(store, store.run(name)), as_json)


def tell(store: Store, made: Run, as_json: bool) -> None:
    """What a run is, and what became of its requests."""
    found = told.whole(store, made)
    if as_json:
        click.echo(json.dumps(found))
        return
    from heylook_llm.bench.report.words import shown  # noqa: PLC0415 (what else it imports loads slowly)

    click.echo(f"Run {made.id[-8:]}{f' ({made.name})' if made.name else ''}: {made.state}")
    for cell in found["cells"]:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in cell["outcomes"].items()) or "nothing sent"
        flags = f"  [{', '.join(cell['flags'])}]" if cell["flags"] else ""
        click.echo(
            f"  {shown(cell['target'])}  {shown(cell['model'])}  {cell['scenario']}  {cell['load']} {cell['level']:g}  "
            f"{cell['cache']}  {outcomes}{flags}"
        )
    warn(store, made)


def warn(store: Store, made: Run) -> None:
    """On stderr, why its numbers may not be trusted and what was in the way."""
    from heylook_llm.bench.report.words import shown  # noqa: PLC0415 (what else it imports loads slowly)

    for text in (*json.loads(made.flags_json), *store.warnings(made.id)):
        click.echo(f"Warning: {shown(text)}", err=True)


# ---- ending ----------------------------------------------------------------------------------------------------------


def cancel(name: str) -> None:
    """Ask a run that goes on to end; what it has is kept."""
    with Store(state.bench_file()) as store:
        made = told.current(store, store.run(name))
        if made.state in ENDED:
            raise Conflict(f"The run {made.id[-8:]} has ended: {made.state}.")
        store.request_cancel(made.id)
    click.echo(f"Asked the run {made.id[-8:]} to end; what it has is kept.")


def delete(names: tuple[str, ...]) -> None:
    """Forget runs."""
    with Store(state.bench_file()) as store:
        for made in [told.current(store, store.run(name)) for name in names]:
            if made.goes_on:
                raise Conflict(f"The run {made.id[-8:]} goes on; first: heylookllm bench cancel {made.id[-8:]}")
            store.delete(made.id)
            click.echo(f"Deleted the run {made.id[-8:]}.")
