"""The bench of first tries: `hvax train FILE` and `hvax.fit` by their defaults on real tables."""
