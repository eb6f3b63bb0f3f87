"""Recipes, and what they name put together: the only code that knows implementations."""
