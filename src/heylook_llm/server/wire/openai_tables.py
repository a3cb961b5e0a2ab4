"""Every body of the OpenAI dialect, by its route."""

from typing import Final

from heylook_llm.server.wire import openai, openai_batches, openai_groups, responses, table

BODIES: Final[dict[str, type[table.Body]]] = {
    **openai.BODIES,
    **responses.BODIES,
    **openai_groups.BODIES,
    **openai_batches.BODIES,
}
