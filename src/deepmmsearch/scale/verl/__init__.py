"""verl's trainers over our episodes."""
