"""Physics on any potential z -> U(z): gradients, leapfrog, tempering, flow. Knows no data."""
