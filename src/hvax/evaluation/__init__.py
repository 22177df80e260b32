"""How good a model is: bounds and likelihoods with their errors."""
