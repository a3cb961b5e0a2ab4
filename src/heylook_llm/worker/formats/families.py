"""The families of models: what each writes around reasoning and around calls."""

from typing import Final

import msgspec

from heylook_llm.worker.formats.calls import ToolFormat
from heylook_llm.worker.formats.json_calls import JsonCalls
from heylook_llm.worker.formats.literals import MarkedCalls, MixedCalls, PythonCalls
from heylook_llm.worker.formats.named_calls import DeepSeekCalls, KimiCalls, MistralCalls
from heylook_llm.worker.formats.reasoning import THINK, Marks
from heylook_llm.worker.formats.tagged_calls import TaggedCalls

HERMES: Final = JsonCalls("hermes", openings=("<tool_call>",), closings=("</tool_call>",))
QWEN_CODER: Final = TaggedCalls(
    "qwen-coder",
    openings=("<tool_call>", "<function="),
    closings=("</tool_call>",),
    function="<function=",
    name_end=">",
    function_end="</function>",
    parameter="<parameter=",
    key_end=">",
    value_end="</parameter>",
    line="\n",
)
SEED: Final = msgspec.structs.replace(
    QWEN_CODER, name="seed", openings=("<seed:tool_call>",), closings=("</seed:tool_call>",), line=""
)
GLM: Final = TaggedCalls(
    "glm",
    openings=("<tool_call>",),
    closings=("</tool_call>",),
    function="",
    name_end="",
    function_end="</tool_call>",
    parameter="<arg_key>",
    key_end="</arg_key>",
    value_start="<arg_value>",
    value_end="</arg_value>",
)
LONGCAT: Final = TaggedCalls(
    "longcat",
    openings=("<longcat_tool_call>",),
    closings=("</longcat_tool_call>",),
    function="",
    name_end="",
    function_end="</longcat_tool_call>",
    parameter="<longcat_arg_key>",
    key_end="</longcat_arg_key>",
    value_start="<longcat_arg_value>",
    value_end="</longcat_arg_value>",
)
MINIMAX: Final = TaggedCalls(
    "minimax",
    openings=("<minimax:tool_call>",),
    closings=("</minimax:tool_call>",),
    function='<invoke name="',
    name_end='">',
    function_end="</invoke>",
    parameter='<parameter name="',
    key_end='">',
    value_end="</parameter>",
)
DEEPSEEK_DSML: Final = TaggedCalls(
    "deepseek-dsml",
    openings=("<｜DSML｜function_calls>", "<｜DSML｜tool_calls>"),
    closings=("</｜DSML｜function_calls>", "</｜DSML｜tool_calls>"),
    function='<｜DSML｜invoke name="',
    name_end='">',
    function_end="</｜DSML｜invoke>",
    parameter='<｜DSML｜parameter name="',
    key_end='" string="',
    kind_end='">',
    value_end="</｜DSML｜parameter>",
)
DEEPSEEK: Final = DeepSeekCalls(
    "deepseek",
    section="<｜tool▁calls▁begin｜>",
    section_end="<｜tool▁calls▁end｜>",
    call="<｜tool▁call▁begin｜>",
    call_end="<｜tool▁call▁end｜>",
    argument="<｜tool▁sep｜>",
)
KIMI: Final = KimiCalls(
    "kimi",
    section="<|tool_calls_section_begin|>",
    section_end="<|tool_calls_section_end|>",
    call="<|tool_call_begin|>",
    call_end="<|tool_call_end|>",
    argument="<|tool_call_argument_begin|>",
)
MISTRAL: Final = MistralCalls()
COMMAND_R: Final = JsonCalls(
    "command-r",
    openings=("<|START_ACTION|>",),
    closings=("<|END_ACTION|>",),
    dropped=("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    name_keys=("tool_name",),
    argument_keys=("parameters",),
    other_keys=("tool_call_id",),
    array=True,
    identity="tool_call_id",
)
PHI: Final = JsonCalls("phi", openings=("<|tool_call|>", "functools["), closings=("<|/tool_call|>",), array=True)
LIQUID: Final = MixedCalls("lfm2", openings=("<|tool_call_start|>",), closings=("<|tool_call_end|>",))
FUNCTION_GEMMA: Final = MarkedCalls(
    "function-gemma", openings=("<start_function_call>",), closings=("<end_function_call>",), quote="<escape>"
)
GEMMA: Final = MarkedCalls("gemma", openings=("<|tool_call>",), closings=("<tool_call|>",), quote='<|"|>')
GEMMA_PYTHON: Final = PythonCalls("gemma-python", openings=("```tool_code",), closings=("```",))
LLAMA: Final = MixedCalls(
    "llama",
    openings=("<|python_tag|>",),
    closings=(";",),
    leads=("{", "["),
    dropped=("<|python_start|>", "<|python_end|>"),
    name_keys=("name", "function"),
)

TOOL_FORMATS: Final[tuple[ToolFormat, ...]] = (
    HERMES, QWEN_CODER, SEED, GLM, LONGCAT, MINIMAX, DEEPSEEK, DEEPSEEK_DSML, KIMI, MISTRAL, COMMAND_R, PHI, LIQUID,
    FUNCTION_GEMMA, GEMMA, GEMMA_PYTHON, LLAMA,
)  # fmt: skip

REASONING_MARKS: Final = (
    Marks("<seed:think>", "</seed:think>"),
    Marks("[THINK]", "[/THINK]"),
    Marks("<|START_THINKING|>", "<|END_THINKING|>"),
    Marks("<|channel>thought", "<channel|>"),
    Marks("<|inner_prefix|>", "<|inner_suffix|>"),
    Marks("◁think▷", "◁/think▷"),
    THINK,
)
"""Those of special families first: the last ones' are in many templates that only take them out."""
