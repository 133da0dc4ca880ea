"""Tasks of the trapdoor domain: their prior, synthesis, banks, behavioural roles and prompts. No JAX here."""
