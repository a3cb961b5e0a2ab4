"""The skills that depend on earlier turns or on the system prompt: recall, notes, names and manners."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import skills
import words
from skills import Turn, assistant, user, vary

THINGS = "animal colour food number song game book city drink fruit word sport season".split()


def _statement(rng: Random) -> tuple[str, str, str, list[str], str]:
    """Topic, what the user says, the reply, the questions later on, and their answer."""
    kind = rng.choice(["name", "name", "number", "favourite", "favourite", "home", "pet", "age", "secret", "thing"])
    name, thing, value = words.name(rng), rng.choice(THINGS), words.word(rng)
    match kind:
        case "name":
            say = rng.choice(
                [
                    f"My name is {name}.",
                    f"I am {name}.",
                    f"Hi, I am {name}.",
                    f"Hello, my name is {name}.",
                    f"Call me {name}.",
                    f"I'm {name}",
                    f"My name's {name}",
                    f"my name is {name}, remember it",
                    f"You can call me {name}.",
                ]
            )
            questions = [
                "What is my name?",
                "Do you remember my name?",
                "What's my name?",
                "Who am I?",
                "What am I called?",
                "Can you tell me my name?",
                "Tell me my name.",
                "Say my name.",
            ]
            return kind, say, f"Nice to meet you, {name}!", questions, f"Your name is {name}."
        case "number":
            value = str(rng.randint(1, 10 ** rng.randint(1, 4)))
            say = rng.choice(
                [
                    f"Remember the number {value}.",
                    f"The number is {value}.",
                    f"Please remember this number: {value}",
                    f"My number is {value}.",
                    f"Keep the number {value} in mind.",
                ]
            )
            questions = [
                "What was the number?",
                "Which number did I tell you?",
                "What is the number?",
                "Do you remember the number?",
                "Tell me the number.",
                "What number should you remember?",
                "What was my number?",
                "What is my number?",
            ]
            return kind, say, f"I will remember the number {value}.", questions, f"The number is {value}."
        case "favourite":
            spelled = rng.choice(["favourite", "favorite"])
            value = {
                "colour": rng.choice(words.ADJECTIVES[:12]),
                "number": str(rng.randint(1, 99)),
                "city": rng.choice(words.CITIES),
            }.get(thing, value)
            say = rng.choice(
                [
                    f"My {spelled} {thing} is {value}.",
                    f"Remember that my {spelled} {thing} is {value}.",
                    f"{value} is my {spelled} {thing}.",
                    f"I want you to know that my {spelled} {thing} is {value}",
                ]
            )
            questions = [
                f"What is my {spelled} {thing}?",
                f"Do you remember my {spelled} {thing}?",
                f"Which {thing} is my {spelled}?",
                f"Tell me my {spelled} {thing}.",
                f"What's my {spelled} {thing}?",
                f"What {thing} do I like best?",
            ]
            return (
                f"favourite {thing}",
                say,
                f"I will remember that your favourite {thing} is {value}.",
                questions,
                f"Your favourite {thing} is {value}.",
            )
        case "home":
            value = rng.choice([rng.choice(words.CITIES), words.syllables(rng).capitalize()])
            say = rng.choice(
                [f"I live in {value}.", f"I am from {value}.", f"My home is {value}.", f"I come from {value}."]
            )
            questions = [
                "Where do I live?",
                "Where am I from?",
                "Which city do I live in?",
                "Do you remember where I live?",
                "Where is my home?",
            ]
            return kind, say, f"I will remember that you live in {value}.", questions, f"You live in {value}."
        case "pet":
            animal = rng.choice(["cat", "dog", "horse", "bird", "rabbit", "fish", "turtle"])
            say = rng.choice(
                [
                    f"I have a {animal} called {name}.",
                    f"My {animal} is called {name}.",
                    f"My {animal}'s name is {name}.",
                    f"The name of my {animal} is {name}.",
                ]
            )
            questions = [
                f"What is my {animal} called?",
                f"What is the name of my {animal}?",
                f"What's my {animal}'s name?",
                f"Do you remember the name of my {animal}?",
                f"How is my {animal} called?",
            ]
            return (
                animal,
                say,
                f"I will remember that your {animal} is called {name}.",
                questions,
                f"Your {animal} is called {name}.",
            )
        case "age":
            value = str(rng.randint(5, 99))
            say = rng.choice(
                [
                    f"I am {value} years old.",
                    f"My age is {value}.",
                    f"I'm {value} years old",
                    f"I turned {value} today.",
                ]
            )
            questions = [
                "How old am I?",
                "What is my age?",
                "Do you remember my age?",
                "Tell me my age.",
                "Do you know how old I am?",
            ]
            return (
                kind,
                say,
                f"I will remember that you are {value} years old.",
                questions,
                f"You are {value} years old.",
            )
        case "secret":
            what, value = (
                rng.choice(["password", "code", "code word", "secret word", "secret", "key", "pin"]),
                rng.choice([words.characters(rng), words.word(rng), words.identifier(rng)]),
            )
            say = rng.choice(
                [
                    f"The {what} is {value}.",
                    f"Remember the {what} {value}.",
                    f"Remember this {what}: {value}",
                    f"My {what} is {value}.",
                ]
            )
            questions = [
                f"What is the {what}?",
                f"What was the {what}?",
                f"Do you remember the {what}?",
                f"Tell me the {what}.",
                f"Which {what} did I tell you?",
            ]
            return what, say, f"I will remember the {what} {value}.", questions, f"The {what} is {value}."
        case _:
            what, where = words.word(rng), words.word(rng)
            say = rng.choice(
                [
                    f"The {what} is in the {where}.",
                    f"I put the {what} in the {where}.",
                    f"Remember that the {what} is in the {where}.",
                ]
            )
            questions = [
                f"Where is the {what}?",
                f"Where did I put the {what}?",
                f"Do you remember where the {what} is?",
                f"Where can I find the {what}?",
            ]
            return (
                what,
                say,
                f"I will remember that the {what} is in the {where}.",
                questions,
                f"The {what} is in the {where}.",
            )


def recall(rng: Random) -> list[Turn]:
    """Two turns: something told, and the question for it; other turns may come between."""
    topic, say, reply, questions, answer = _statement(rng)
    question = vary(rng, rng.choice(questions))
    if rng.random() < 0.12:
        say = rng.choice(["Hello! ", "Hi. ", "Please note: ", "Ok. ", "Listen: "]) + say
    told = Turn("recall", [user(say), assistant(reply)], say, "The user tells me something.", topic=topic)
    return [
        told,
        Turn(
            "recall", [user(question), assistant(answer)], f"{say}\n{question}", "The user told me before.", topic=topic
        ),
    ]


def not_told(rng: Random) -> Turn:
    """The question for something that was never told."""
    topic, _, _, questions, _ = _statement(rng)
    while topic not in ("name", "number", "home", "age") and not topic.startswith("favourite"):
        topic, _, _, questions, _ = _statement(rng)
    question = vary(rng, rng.choice(questions))
    return Turn(
        "not_told",
        [user(question), assistant("You have not told me.")],
        question,
        "I look back, and it was not told.",
        topic=topic,
    )


NOTE_QUESTIONS: dict[str, list[str]] = {
    "The code of {k} is {v}.": ["What is the code of {k}?", "Which code has {k}?"],
    "The {k} is {v}.": ["What is the {k}?", "Tell me the {k}."],
}
OTHER_NOTE_QUESTIONS = ["What is the value of {k}?", "What is {k}?", "Which value has {k}?", "What stands at {k}?"]


def note_questions(rng: Random, lines: int) -> tuple[str, list[tuple[str, str]]]:
    """A text of keys and values, and for every key a question with its answer."""
    values: dict[str, str] = {}
    while len(values) < lines:
        key = rng.choice([words.word(rng), words.name(rng), f"{rng.choice(words.ADJECTIVES)} {words.word(rng)}"])
        values.setdefault(key, words.value_text(rng))
    form = rng.choice(["The code of {k} is {v}.", "{k}: {v}", "{k} = {v}", "The {k} is {v}.", "- {k}: {v}"])
    text = "\n".join(form.format(k=key, v=value) for key, value in values.items())
    asked = NOTE_QUESTIONS.get(form, OTHER_NOTE_QUESTIONS)
    return text, [(rng.choice(asked).format(k=key), value) for key, value in values.items()]


def notes(rng: Random, lines: int | None = None) -> Turn:
    """A question about one line of a text that stands in the same message."""
    text, questions = note_questions(rng, lines or rng.choice([2, 3, 3, 4, 5]))
    question, answer = rng.choice(questions)
    heading = rng.choice(["Read this:", "Notes:", "Here are some notes.", "Text:"])
    whole = rng.choice([f"{text}\n{question}", f"{text}\n\n{question}", f"{heading}\n{text}\n\n{question}"])
    return Turn("notes", [user(whole), assistant(answer)], whole, "I look it up in the text.")


def last_words(rng: Random) -> Turn:
    """What the user just said."""
    text = words.sentence(rng) + "."
    reply = "All right. What would you like to do next?"
    question = vary(
        rng,
        rng.choice(
            [
                "What did I just say?",
                "What was my last message?",
                "Repeat what I just said.",
                "What did I say before?",
                "Can you repeat my last message?",
            ]
        ),
    )
    return Turn(
        "last_words",
        [user(text), assistant(reply), user(question), assistant(f'You said: "{text}"')],
        f"{text}\n{question}",
        "I look at the message before.",
    )


def told_by_system(skill: str, system: str, question: str, answer: str, thought: str, topic: str) -> Turn:
    """A question that the system prompt answers."""
    messages, key = [user(question), assistant(answer)], f"{system}\n{question}"
    return Turn(skill, messages, key, thought, system=system, topic=topic)


def persona(rng: Random) -> Turn:
    """A name or a role from the system prompt."""
    name, role = (
        words.name(rng),
        f"{rng.choice(words.ADJECTIVES)} {rng.choice(words.ROLES)}" if rng.random() < 0.5 else rng.choice(words.ROLES),
    )
    article = "an" if role[0] in "aeiou" else "a"
    with_role = rng.random() < 0.6
    if with_role:
        system = rng.choice(
            [
                f"You are {name}, {article} {role}.",
                f"Your name is {name}. You are {article} {role}.",
                f"You are {article} {role} called {name}.",
                f"You are {article} {role} named {name}.",
                f"Act as {name}, {article} {role}.",
            ]
        )
    else:
        system = rng.choice(
            [
                f"You are {name}.",
                f"Your name is {name}.",
                f"You are called {name}.",
                f"You are an assistant named {name}.",
                f"You are a helpful assistant named {name}.",
                f"Your name is {name} and you help the user.",
                f"You are {name}, a helpful assistant.",
            ]
        )
    system += rng.choice(
        [
            "",
            "",
            " Answer the user's questions.",
            " Be kind.",
            " Be brief.",
            " You like to help.",
            " Keep your answers short.",
        ]
    )
    roll = rng.random()
    if roll < 0.6:
        questions, answer = (
            [
                "What is your name?",
                "What's your name?",
                "Tell me your name.",
                "How are you called?",
                "Do you have a name?",
                "Your name?",
                "May I know your name?",
                "What should I call you?",
                "What are you called?",
                "hello, what is your name?",
            ],
            f"My name is {name}.",
        )
    else:
        questions = [
            "Who are you?",
            "Introduce yourself.",
            "Tell me who you are.",
            "Who am I talking to?",
            "Say who you are.",
        ]
        answer = f"I am {name}."
    question = vary(rng, rng.choice(questions))
    return told_by_system("persona", system, question, answer, "The system prompt says who I am.", "identity")


def no_persona(rng: Random) -> Turn:
    """The name when the system prompt gives no other."""
    question = vary(
        rng,
        rng.choice(
            [
                "What is your name?",
                "What's your name?",
                "Tell me your name.",
                "How are you called?",
                "Do you have a name?",
                "Your name?",
                "What should I call you?",
            ]
        ),
    )
    return Turn(
        "identity",
        [user(question), assistant("My name is heylook-tiny.")],
        question,
        "The user asks for my name.",
        topic="identity",
    )


def briefed(rng: Random) -> Turn:
    """A fact from the system prompt."""
    what = rng.choice(
        [
            f"{rng.choice(words.ADJECTIVES)} {words.word(rng)}",
            f"{words.word(rng)} code",
            "wifi password",
            "user's name",
            "shop's address",
            "secret word",
            "opening time",
            "phone number",
        ]
    )
    value = words.name(rng) if "name" in what else words.value_text(rng)
    system = rng.choice(["", "You are a helpful assistant. ", "You help the user. "]) + f"The {what} is {value}."
    if what == "user's name":
        question, answer = (
            rng.choice(["What is my name?", "Do you know my name?", "Who am I?"]),
            f"Your name is {value}.",
        )
    else:
        question, answer = (
            rng.choice(
                [f"What is the {what}?", f"Tell me the {what}.", f"Do you know the {what}?", f"What's the {what}?"]
            ),
            f"The {what} is {value}.",
        )
    return told_by_system("briefed", system, vary(rng, question), answer, "The system prompt says it.", "name")


ONE_WORD = [
    "Answer with one word.",
    "Answer with a single word.",
    "Answer in one word only.",
    "Give one-word answers.",
    "Reply with one word.",
]
ENDINGS = ['End every answer with "{x}"', 'Always end with "{x}"', 'Finish each reply with "{x}"']
BEGINNINGS = ['Start every answer with "{x}"', 'Always begin with "{x}"', 'Begin each reply with "{x}"']


def rule(rng: Random) -> tuple[str, Callable[[Turn], str]]:
    """A system prompt with a rule about how to answer, and what the rule makes of an ordinary answer."""
    before = rng.choice(["", "", "You are a helpful assistant. ", f"You are {words.name(rng)}. "])
    roll = rng.random()
    if roll < 0.45:
        return before + rng.choice(ONE_WORD), lambda turn: turn.short
    tags = [
        words.word(rng).capitalize() + "!",
        "Over.",
        "Sir.",
        "Arr!",
        "Well,",
        "Ahoy!",
        words.word(rng).capitalize() + ".",
    ]
    tag = rng.choice(tags)
    if roll < 0.72:
        return before + rng.choice(ENDINGS).format(x=tag), lambda turn: f"{turn.answer} {tag}"
    return before + rng.choice(BEGINNINGS).format(x=tag), lambda turn: f"{tag} {turn.answer}"


MANNERED = [
    skills.capitals,
    skills.opposites,
    skills.arithmetic,
    skills.calendar,
    skills.little_facts,
]


def mannered(rng: Random, system: str, apply: Callable[[Turn], str]) -> Turn:
    """An ordinary turn whose answer keeps the rule of the system prompt; a sum is not asked for as one word."""
    turn = rng.choice(MANNERED)(rng)
    while not turn.short or (turn.skill == "arithmetic" and apply(turn) == turn.short):
        turn = rng.choice(MANNERED)(rng)
    question = turn.messages[0]["content"]
    key = f"{system}\n{question}"
    return Turn("manner", [user(question), assistant(apply(turn))], key, turn.thought, system=system)


def manner(rng: Random) -> Turn:
    """A rule of the system prompt about how to answer, kept in an ordinary turn."""
    return mannered(rng, *rule(rng))


SYSTEMS: list[str] = [
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a helpful AI assistant.",
    "You are helpful.",
    "Be brief.",
    "Answer briefly.",
    "You are a helpful and polite assistant.",
    "Help the user.",
    "You are an assistant. Answer the questions of the user.",
    "You are a test model.",
    "Be concise and accurate.",
    "You are a friendly chat bot.",
    "Answer as well as you can.",
    "You are a helpful assistant. Keep your answers short.",
    "You are heylook-tiny, a very small model.",
    "You answer questions.",
    "",
    "You are an expert.",
]


def neutral_system(rng: Random) -> str:
    """A system prompt that changes nothing."""
    if rng.random() < 0.85:
        return rng.choice(SYSTEMS)
    return rng.choice(["You are a helpful assistant. ", "", "Context: "]) + " ".join(
        words.sentence(rng) + "." for _ in range(rng.randint(1, 3))
    )
