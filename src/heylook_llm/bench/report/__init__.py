"""A report in the forms that people and programs take: each made of a Report alone, which is made of the store."""
