// Prompts that come with the builder, in sets: each asks for another kind of answer.

export const NAMED_PROMPTS = {
  "Short questions": [
    "What is the capital of Australia?",
    "How many days has a leap year?",
    "Name three colours of the rainbow.",
    "What does the abbreviation HTTP stand for?",
  ],
  "Explaining": [
    "Explain how a refrigerator keeps things cold, for a curious child.",
    "Why is the sky blue in the day and red in the evening? Answer in three sentences.",
    "What is the difference between weather and climate? Give an example of each.",
    "Explain what a hash table is, and when it is slow.",
  ],
  "Reasoning": [
    "A train leaves at 9:40 and arrives at 13:05 with a stop of 12 minutes. How long did it move? Think step by step.",
    "I have twice as many apples as pears and 18 pieces of fruit together. How many of each? Show the way.",
    "All bloops are razzies, and some razzies are lazzies. Is every bloop a lazzie? Say why.",
    "Three switches belong to three lamps in another room, which you may enter once. How do you find out which is which?",
  ],
  "Code": [
    "Write a Python function that merges overlapping intervals, with its type hints and a docstring.",
    "Write a SQL query for the three best paid employees of each department.",
    "What is wrong with this: `def add(item, to=[]): to.append(item); return to`? Mend it.",
    "Write a regular expression for dates like 2024-02-29, and say what it doesn't check.",
  ],
  "Writing": [
    "Write a friendly mail that moves a meeting from Tuesday to Thursday at the same hour.",
    "Tell the story of a lighthouse keeper who finds a message in a bottle, in about 300 words.",
    "Write a haiku about the first frost.",
    "Summarise the plot of Romeo and Juliet in five sentences.",
  ],
};
