"""How the shipped base model is made: tokenizer, corpus, pretraining."""
