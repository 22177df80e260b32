"""What is learned: likelihoods, networks, the VAE and the HVAE. Functions take one example."""
