"""How the shipped base models are made: tokenizer, corpus, pretraining."""
