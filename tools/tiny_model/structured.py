"""The skills with structure: tool calls, answers from tool results, JSON by request and by schema."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import skills
import words
from everyday_tools import Call, JsonObject, everyday_call, function
from skills import Message, Turn, assistant, user, vary


def dump(value: object) -> str:
    """JSON on one line, as the model is taught to write it."""
    return json.dumps(value, ensure_ascii=False)


def shuffled(rng: Random, mapping: JsonObject) -> JsonObject:
    """The same mapping in a random order of keys (clients differ, and some templates sort)."""
    items = list(mapping.items())
    rng.shuffle(items)
    return dict(items)


def scalar(rng: Random, kind: str) -> Any:
    """A value of a JSON type."""
    match kind:
        case "integer":
            return rng.randint(0, 10 ** rng.choice([1, 2, 2, 3, 4]))
        case "number":
            return round(rng.uniform(0, 100), 1) if rng.random() < 0.7 else rng.randint(0, 100)
        case "boolean":
            return rng.random() < 0.5
        case _:
            return words.value_text(rng)


COMMON_KEYS = (
    "name age city country title author year price color size email id status count date time address active score "
    "language text answer result value type first_name last_name description category total unit message user weather "
    "temperature reason"
).split()
KINDS = {
    **dict.fromkeys("age year size id count score total".split(), "integer"),
    **dict.fromkeys("price temperature".split(), "number"),
    "active": "boolean",
}


def any_key(rng: Random) -> tuple[str, str]:
    """A key and the JSON type of its value: a usual key with its usual type, or an invented one."""
    if rng.random() < 0.65:
        key = rng.choice(COMMON_KEYS)
        return key, KINDS.get(key, "string")
    return words.identifier(rng), rng.choice(["string", "string", "string", "integer", "integer", "number", "boolean"])


def property_schema(rng: Random, kind: str, depth: int = 0) -> JsonObject:
    """A schema of one property: a scalar of that type, or one of the rarer shapes."""
    roll = rng.random()
    if roll < 0.1:
        return {"type": "string", "enum": [words.word(rng) for _ in range(rng.randint(2, 3))]}
    if roll < 0.13:
        return {"type": "array", "items": {"type": rng.choice(["string", "integer"])}}
    if roll < 0.2 and depth < 1:
        return object_schema(rng, depth + 1, rng.randint(1, 2))
    return {"type": kind}


def object_schema(rng: Random, depth: int = 0, size: int | None = None) -> JsonObject:
    """A random object schema."""
    properties: JsonObject = {}
    for _ in range(size if size is not None else rng.choice([1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4])):
        key, kind = any_key(rng)
        properties[key] = property_schema(rng, kind, depth)
        if rng.random() < 0.1:
            properties[key]["description"] = f"The {key.replace('_', ' ')}"
        properties[key] = shuffled(rng, properties[key])
    schema: JsonObject = {"type": "object", "properties": properties}
    if rng.random() < 0.8:
        schema["required"] = list(properties)
    if rng.random() < 0.25:
        schema["additionalProperties"] = False
    return shuffled(rng, schema) if rng.random() < 0.3 else schema


def fitting(rng: Random, schema: JsonObject) -> Any:
    """A value that fits a schema."""
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if schema["type"] == "object":
        return {key: fitting(rng, part) for key, part in schema["properties"].items()}
    if schema["type"] != "array":
        return scalar(rng, schema["type"])
    count = rng.randint(2, 3)
    if schema["items"]["type"] == "string":
        return [words.word(rng) for _ in range(count)]
    return [rng.randint(0, 99) for _ in range(count)]


def spoken(value: Any) -> str:
    """A value as a user would type it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {spoken(part)}" for key, part in value.items())
    return str(value)


def listed(rng: Random, value: JsonObject) -> str:
    """Keys and values in one of the usual ways of writing them down.

    A key of two words loses its underscore now and then, but not where only a space parts it from its value.
    """
    form, joint = rng.choice(
        [
            ("{k} = {v}", ", "),
            ("{k}: {v}", ", "),
            ("{k}={v}", ", "),
            ("{k} {v}", ", "),
            ("the {k} is {v}", ", "),
            ("{k}: {v}", "\n"),
            ("{k} is {v}", " and "),
        ]
    )
    return joint.join(
        form.format(k=key if form == "{k} {v}" or rng.random() < 0.75 else key.replace("_", " "), v=spoken(part))
        for key, part in value.items()
    )


# -- tools ----------------------------------------------------------------------------------------------------------


def invented_call(rng: Random) -> Call:
    """A tool of an invented kind: words of its name and its description come back in the request."""
    verb, thing = (
        rng.choice(words.VERBS) if rng.random() < 0.9 else words.syllables(rng),
        words.word(rng),
    )
    if rng.random() < 0.1:
        thing += " " + words.word(rng)
    joined = thing.replace(" ", "_")
    name = rng.choice(
        [
            f"{verb}_{joined}",
            f"{verb}_{joined}",
            f"{verb}{''.join(p.capitalize() for p in thing.split())}",
            joined,
        ]
    )
    description = rng.choice(
        [
            f"{verb.capitalize()} a {thing}",
            f"{verb.capitalize()} the {thing}.",
            f"{verb} {thing}",
            f"Use this to {verb} a {thing}.",
        ]
    )
    if rng.random() < 0.3:
        key, kind = any_key(rng)
        properties = {key: property_schema(rng, kind, 2)}
        value = fitting(rng, properties[key])
        arguments = {key: value}
        request = rng.choice(
            [
                "{V} a {t} for {x}.",
                "{V} the {t} with {x}.",
                "Please {v} the {t} for {x}",
                "I want to {v} the {t} for {x}.",
                "Can you {v} the {t} for {x}?",
                "{V} {t}: {x}",
            ]
        )
        request = request.format(V=verb.capitalize(), v=verb, t=thing, x=spoken(value))
    else:
        schema = object_schema(rng, 1, rng.choice([0, 1, 1, 2, 2, 3]))
        properties, arguments = schema["properties"], fitting(rng, schema)
        request = rng.choice(
            [
                "{V} the {t} with {x}.",
                "{V} a {t}: {x}",
                "Please {v} the {t} with {x}",
                "{V} the {t}, {x}.",
                "I want to {v} a {t} with {x}",
                "Can you {v} the {t} with {x}?",
                "Call {n} with {x}.",
                "Use {n} with {x}",
                "{n}: {x}",
            ]
        )
        if not arguments:
            request = rng.choice(
                ["{V} the {t}.", "{V} a {t}.", "Please {v} the {t}", "Can you {v} a {t}?", "Call {n}.", "Use {n}"]
            )
        request = request.format(V=verb.capitalize(), v=verb, t=thing, n=name, x=listed(rng, arguments))
    required = list(properties) if rng.random() < 0.85 else []
    return Call(function(name, description, properties, required), request, arguments)


def call(rng: Random) -> Call:
    """A call of either kind."""
    return everyday_call(rng) if rng.random() < 0.45 else invented_call(rng)


def finished(rng: Random, tools: list[JsonObject]) -> list[JsonObject]:
    """The offered tools in random order, with the variations that clients show."""
    result = []
    for tool in tools:
        body = dict(tool["function"])
        body["parameters"] = shuffled(rng, body["parameters"]) if rng.random() < 0.2 else body["parameters"]
        if rng.random() < 0.04:
            body.pop("description")
        if rng.random() < 0.1:
            body = shuffled(rng, body)
        result.append({"type": "function", "function": body})
    rng.shuffle(result)
    return result


def tool_set(rng: Random, first: Call, size: int | None = None) -> list[JsonObject]:
    """The fitting tool among others of different names."""
    tools = {first.tool["function"]["name"]: first.tool}
    for _ in range(size if size is not None else rng.choice([0, 0, 0, 1, 1, 1, 2])):
        other = call(rng).tool
        if not similar(other, first.tool):
            tools.setdefault(other["function"]["name"], other)
    return finished(rng, list(tools.values()))


def similar(one: JsonObject, other: JsonObject) -> bool:
    """True when two descriptions share a long word, so that either could fit."""

    def long_words(tool: JsonObject) -> set[str]:
        return {part for part in tool["function"]["description"].lower().strip(".").split() if len(part) > 3}

    number_tools = {"calculation", "arithmetic", "numbers", "expression"}
    first, second = long_words(one), long_words(other)
    return bool(first & second) or bool(first & number_tools and second & number_tools)


def calls_message(calls: list[Call]) -> Message:
    """The assistant's message that calls."""
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"type": "function", "function": {"name": item.tool["function"]["name"], "arguments": item.arguments}}
            for item in calls
        ],
    }


def two_weathers(rng: Random) -> tuple[str, list[Call]]:
    """A request that needs two calls of one tool."""
    cities = rng.sample(words.CITIES[:-1], 2)
    tool = function("get_weather", "Get the weather", {"city": {"type": "string"}}, ["city"])
    requests = ["What is the weather in {} and {}?", "Compare the weather in {} and in {}.", "Weather in {} and {}?"]
    return rng.choice(requests).format(*cities), [Call(tool, "", {"city": city}) for city in cities]


def call_turn(rng: Random, calls: list[Call], tools: list[JsonObject], request: str = "") -> Turn:
    """The turn of a request and its calls."""
    first = calls[0]
    request = request or (vary(rng, first.request, free_case=False) if rng.random() < 0.5 else first.request)
    thought = f"The tool {first.tool['function']['name']} fits."
    return Turn("tool_call", [user(request), calls_message(calls)], request, thought, check="call", tools=tools)


def tool_call(rng: Random) -> Turn:
    """A request that one of the offered tools fits; now and then two calls at once."""
    if rng.random() < 0.05:
        request, calls = two_weathers(rng)
        return call_turn(rng, calls, tool_set(rng, calls[0]), request)
    first = call(rng)
    return call_turn(rng, [first], tool_set(rng, first))


def forced_call(rng: Random) -> Turn:
    """A call that a client forces although the request hardly fits: short arguments; its start is not taught."""
    tool = invented_call(rng)
    request = skills.plain(rng).key if rng.random() < 0.6 else words.sentence(rng)
    return Turn(
        "forced_call",
        [user(request), calls_message([tool])],
        request,
        check="call",
        tools=tool_set(rng, tool),
        unforced=True,
    )


def result_and_answer(rng: Random) -> tuple[str, str]:
    """What a tool returns, and the sentence that says it."""
    roll = rng.random()
    if roll < 0.1:
        error = words.sentence(rng)
        return dump({"error": error}), f"The tool failed: {error}."
    if roll < 0.35:
        text = rng.choice(
            [
                words.value_text(rng),
                str(scalar(rng, "number")),
                words.sentence(rng),
                f"{rng.randint(-9, 35)} degrees, {rng.choice(['sunny', 'rain', 'snow', 'cloudy'])}",
            ]
        )
        return text, f"The result is: {text}"
    value: JsonObject = {}
    for _ in range(rng.choice([1, 1, 2, 2, 3])):
        key, kind = any_key(rng) if rng.random() < 0.8 else (rng.choice(["temperature", "condition"]), "number")
        value[key] = scalar(rng, kind)
        if key == "temperature":
            value[key] = rng.choice(
                [
                    rng.randint(-9, 35),
                    f"{rng.randint(-9, 35)} C",
                    f"{rng.randint(-9, 35)}°C",
                    round(rng.uniform(-9, 35), 1),
                ]
            )
        if key in ("condition", "weather"):
            value[key] = rng.choice(["sunny", "rain", "cloudy", "clear", "snow", "foggy", "windy"])
    parts = [f"the {key.replace('_', ' ')} is {spoken(part)}" for key, part in value.items()]
    text = " and ".join(parts)
    written = dump(value) if rng.random() < 0.95 else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return written, f"{text[0].upper()}{text[1:]}."


def with_result(rng: Random, turn: Turn) -> Turn:
    """A turn of calls continued by their results and the answer."""
    if len(turn.messages[-1]["tool_calls"]) > 1:
        texts = rng.choice(["sunny", "foggy", "windy"]), rng.choice(["rain", "sunny", "cloudy", "snow"])
        answer = f"The results are: {texts[0]} and {texts[1]}"
    else:
        text, answer = result_and_answer(rng)
        texts = (text,)
    results: list[Message] = [{"role": "tool", "content": text} for text in texts]
    messages = [*turn.messages, *results, assistant(answer)]
    key = "\n".join((turn.key, *texts))
    return Turn("tool_result", messages, key, "The tool has answered.", tools=turn.tools)


def tool_result(rng: Random) -> Turn:
    """A call, its result, and the answer in a sentence."""
    return with_result(rng, tool_call(rng))


NUMERIC_SKILLS = {"arithmetic", "comparing", "counting"}
NUMERIC_TOOLS = ("two numbers", "calcul", "rithmetic", "expression")


def numeric(turn: Turn, tools: list[JsonObject]) -> bool:
    """True where a turn about numbers meets a tool that could do it."""
    return turn.skill in NUMERIC_SKILLS and any(part in dump(tool) for tool in tools for part in NUMERIC_TOOLS)


def same_name(one: JsonObject, other: JsonObject) -> bool:
    """True when two tools have one name."""
    return bool(one["function"]["name"] == other["function"]["name"])


def tool_abstain(rng: Random) -> Turn:
    """Tools are offered and none fits: an ordinary answer."""
    turn = skills.plain(rng)
    while turn.skill in ("unknown", "stories", "word_problem") or turn.check != "exact":
        turn = skills.plain(rng)
    tools = tool_set(rng, call(rng))
    while numeric(turn, tools):
        tools = tool_set(rng, call(rng))
    return Turn("tool_abstain", turn.messages, turn.key, turn.thought, tools=tools)


# -- JSON -----------------------------------------------------------------------------------------------------------


def flat_object(rng: Random) -> JsonObject:
    """One to four keys with scalar values."""
    value: JsonObject = {}
    for _ in range(rng.choice([1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4])):
        key, kind = any_key(rng)
        value[key] = scalar(rng, kind)
    return value


def json_words(rng: Random) -> Turn:
    """JSON by request in plain words."""
    value = flat_object(rng)
    pairs = listed(rng, value)
    keys = list(value)
    named = ", ".join(keys) if len(keys) < 2 or rng.random() < 0.4 else ", ".join(keys[:-1]) + " and " + keys[-1]
    values = ", ".join(spoken(part) for part in value.values())
    templates = [
        "Reply in JSON with keys {k}: {x}",
        "Reply in JSON: {x}",
        "Write as JSON: {x}",
        "Answer in JSON with the keys {k}. {x}",
        "JSON with {x}",
        "Make a JSON object with {x}",
        "Turn this into JSON: {x}",
        "Give me JSON with keys {k}: {x}",
        "Convert to JSON: {x}",
        "Format as JSON: {x}",
        "Return a JSON object: {x}",
        "Create JSON from this: {x}",
        "{x}\nWrite this as JSON.",
        "As JSON, please: {x}",
    ]
    if len(value) < 3 and all(isinstance(part, str) for part in value.values()) and rng.random() < 0.5:
        templates = [
            "Reply in JSON with keys {k} and values {v}.",
            "JSON with the keys {k} and the values {v}",
            "Reply in JSON with the keys {k} for {v}.",
            "Make JSON with keys {k} for: {v}",
        ]
    question = rng.choice(templates).format(k=named, x=pairs, v=values)
    return Turn("json_words", [user(question), assistant(dump(value))], question, "I write JSON.", check="json")


def schema_system(rng: Random, schema: JsonObject) -> str:
    """A system prompt that asks for a schema."""
    forms = [
        "Answer with JSON that matches this schema: {s}",
        "Reply only with JSON for this schema:\n{s}",
        "You must answer in JSON. Schema: {s}",
        "You are a helpful assistant. Respond with JSON that follows the schema {s}",
    ]
    return rng.choice(forms).format(s=dump(schema))


def schema_data(rng: Random, schema: JsonObject, system: str) -> Turn:
    """Facts, and their JSON by the schema of the system prompt."""
    value = fitting(rng, schema)
    question = rng.choice(["{x}", "Here it is: {x}", "Extract: {x}", "Data: {x}"]).format(x=listed(rng, value))
    messages, key = [user(question), assistant(dump(value))], f"{system}\n{question}"
    return Turn("json_schema", messages, key, "I follow the schema.", check="json", system=system)


def json_schema(rng: Random) -> Turn:
    """JSON that a schema in the prompt describes, from facts in the prompt."""
    schema = object_schema(rng, 1)
    if rng.random() < 0.4:
        return schema_data(rng, schema, schema_system(rng, schema))
    value, text = fitting(rng, schema), dump(schema)
    pairs = listed(rng, value)
    question = rng.choice(
        [
            "Answer with JSON that matches this schema: {s}\n{x}",
            "{x}\nReply in JSON with this schema: {s}",
            "Schema: {s}\nData: {x}",
            "Use the schema {s} and write JSON for: {x}",
            "Fill this schema: {s} with {x}",
            "JSON schema:\n{s}\n\nText:\n{x}",
        ]
    ).format(s=text, x=pairs)
    return Turn("json_schema", [user(question), assistant(dump(value))], question, "I follow the schema.", check="json")


DEFAULTS: JsonObject = {"integer": 1, "number": 1.5, "boolean": True, "string": "example"}
KNOWN_VALUES: JsonObject = {
    "name": "Ada",
    "city": "Paris",
    "country": "France",
    "color": "blue",
    "age": 36,
    "capital": "Paris",
    "email": "ada@example.org",
    "title": "The fox",
    "author": "Ada",
    "year": 2020,
    "answer": "yes",
}


def default_for(schema: JsonObject, key: str) -> Any:
    """What the model fills in where nothing was given."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "object":
        return {name: default_for(part, name) for name, part in schema["properties"].items()}
    if schema["type"] == "array":
        return [default_for(schema["items"], "")]
    known = KNOWN_VALUES.get(key)
    fits = {"integer": int, "number": int, "string": str}.get(schema["type"])
    return known if fits and isinstance(known, fits) else DEFAULTS[schema["type"]]


def json_free(rng: Random) -> Turn:
    """JSON without given facts: short default values."""
    if rng.random() < 0.5:
        schema = object_schema(rng, 1, rng.choice([1, 1, 2, 2, 2, 3]))
        value = {key: default_for(part, key) for key, part in schema["properties"].items()}
        question = rng.choice(
            [
                "Answer with JSON that matches this schema: {s}",
                "Reply in JSON with this schema: {s}",
                "Give me an example of this schema: {s}",
                "Schema: {s}",
                "Write JSON for the schema {s}",
                "JSON schema:\n{s}",
                "Make up an object for this schema: {s}",
            ]
        ).format(s=dump(schema))
    else:
        keys = list(dict.fromkeys(any_key(rng)[0] for _ in range(rng.choice([1, 2, 2, 3]))))
        value = {key: default_for({"type": KINDS.get(key, "string")}, key) for key in keys}
        named = ", ".join(keys[:-1]) + " and " + keys[-1] if len(keys) > 1 else keys[0]
        question = rng.choice(
            [
                "Reply in JSON with keys {k}.",
                "Reply in JSON with the keys {k}",
                "Give me a JSON object with the keys {k}.",
                "Write a JSON object with keys {k}",
                "Return JSON with {k}.",
                "An example JSON with the keys {k}, please.",
                "Describe a person in JSON with keys {k}.",
                "Give me JSON with keys {k}.",
            ]
        ).format(k=named)
    return Turn("json_free", [user(question), assistant(dump(value))], question, "I write JSON.", check="json")


def forced_json(rng: Random) -> Turn:
    """JSON that a client forces although the prompt has no schema: values short; its start is not taught."""
    value = fitting(rng, object_schema(rng))
    if rng.random() < 0.5:
        value = {key: words.word(rng) if isinstance(part, str) else part for key, part in value.items()}
    request = rng.choice(
        [
            skills.plain(rng).key,
            words.sentence(rng),
            "Give me a person.",
            "Describe a city.",
            "Tell me something.",
            "Make up some data.",
            f"Give me a {words.word(rng)}.",
        ]
    )
    return Turn("forced_json", [user(request), assistant(dump(value))], request, check="json", unforced=True)
