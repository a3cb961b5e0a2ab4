"""How much the generated tests try: HEYLOOK_TEST_TIER=long tries far more than a commit needs."""

import os

LONG = os.environ.get("HEYLOOK_TEST_TIER") == "long"
EXAMPLES = 10_000 if LONG else 300
MACHINES = 2_000 if LONG else 100
