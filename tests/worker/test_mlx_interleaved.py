"""Generated interleavings on random weights: whoever comes, goes, shares, yields or reuses, each text stays its own."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.worker.providers.base import OutOfCells
from heylook_llm.worker.retention import Fixed
from heylook_llm.worker.scheduler import Scheduler
from heylook_llm.worker.sequence import Sequence
from tests.worker import random_mlx
from tests.worker.tiers import LONG

pytest.importorskip("mlx_lm", reason="mlx-lm isn't installed: pip install 'heylookllm[mlx]'", exc_type=ImportError)
mlx = pytest.importorskip("heylook_llm.worker.providers.mlx", exc_type=ImportError)

pytestmark = pytest.mark.integration

MOST_TOKENS = 20
OPENING = tuple((at * 5) % 900 for at in range(40))
PROMPTS = (OPENING[:1], OPENING[:12], OPENING, (*OPENING[:30], 7, 8, 9), (*OPENING, 3), (900, 901, 902, 903))
SAMPLINGS = (
    core.Sampling(temperature=0.0, ignore_eos=True),
    core.Sampling(temperature=1.5, seed=3, top_k=0, top_p=0.9),
    core.Sampling(temperature=0.0, frequency_penalty=0.5, min_tokens=30, logprobs=1),
    core.Sampling(temperature=0.0),
)


class Visit(NamedTuple):
    """A request: which, how long, in which step it comes, and after how many it is cancelled."""

    prompt: int
    sampling: int
    tokens: int
    arrives: int
    leaves: int | None


visits = st.builds(
    Visit,
    st.integers(0, len(PROMPTS) - 1),
    st.integers(0, len(SAMPLINGS) - 1),
    st.integers(1, MOST_TOKENS),
    st.integers(0, 30),
    st.none() | st.integers(1, 25),
)


class Bench:
    """A provider, and what each prompt answers alone."""

    def __init__(self, folder: Path) -> None:
        load = core.Load("random", "mlx", str(folder), {"n_ctx": 128, "n_parallel": 4})
        self.provider: Any = mlx.open_model(load, lambda fraction: None)
        self._alone: dict[tuple[int, int], list[int]] = {}

    def alone(self, prompt: int, sampling: int) -> list[int]:
        """The tokens of that prompt's answer when nothing else runs and nothing is kept."""
        key = (prompt, sampling)
        if key not in self._alone:
            visit = Visit(prompt, sampling, MOST_TOKENS, 0, None)
            [self._alone[key]] = self.run([visit], kv_tokens=512, prefill_tokens=512)
        return self._alone[key]

    def run(self, wanted: list[Visit], *, kv_tokens: int, prefill_tokens: int) -> list[list[int]]:
        """The outputs of these visits together."""
        provider = self.provider
        for slot in range(4):
            provider.remove(slot)
        scheduler = Scheduler(
            provider, slots=4, kv_tokens=kv_tokens, prefill_tokens=prefill_tokens, retention=Fixed(200)
        )
        sequences = [self._sequence(at, visit) for at, visit in enumerate(wanted)]
        step = 0
        while step < 40 or not scheduler.idle:
            for at, visit in enumerate(wanted):
                if visit.arrives == step:
                    scheduler.submit(sequences[at], 0)
                if visit.leaves is not None and visit.arrives + visit.leaves == step:
                    scheduler.cancel(at)
            step += 1
            if scheduler.idle:
                continue
            try:
                drawn = provider.step(scheduler.plan(0))
            except OutOfCells:
                scheduler.make_room()
                continue
            scheduler.commit(drawn, 0, 1)
            assert step < 5000
        return [sequence.tokens[sequence.prompt_tokens :] for sequence in sequences]

    def _sequence(self, at: int, visit: Visit) -> Sequence:
        sampling = core.Sampling(
            **{name: getattr(SAMPLINGS[visit.sampling], name) for name in core.Sampling.__struct_fields__}
            | {"max_tokens": visit.tokens}
        )
        return Sequence(at, 0, PROMPTS[visit.prompt], sampling, limit_tokens=128)


@pytest.fixture(scope="module", params=["llama", "llama together", "sliding", "sliding together", "recurrent"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One for each kind of cache, with prompts one by one as on the processor, and together as on a GPU."""
    shape, *together = request.param.split()
    made = Bench(random_mlx.write(tmp_path_factory.mktemp("mlx"), shape))
    made.provider._prefills_together = bool(together)
    return made


@settings(max_examples=400 if LONG else 25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(visits, min_size=1, max_size=7), st.sampled_from([130, 200, 512]), st.sampled_from([5, 32, 512]))
def test_each_text_stays_its_own(bench: Bench, wanted: list[Visit], kv_tokens: int, prefill_tokens: int) -> None:
    outputs = bench.run(wanted, kv_tokens=kv_tokens, prefill_tokens=prefill_tokens)
    for visit, output in zip(wanted, outputs, strict=True):
        expected = bench.alone(visit.prompt, visit.sampling)
        assert output == expected[: len(output)]
        if visit.leaves is None:
            assert len(output) == min(visit.tokens, len(expected))
