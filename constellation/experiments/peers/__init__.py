"""The study of paper B: peers that teach one another without labels, beside their controls."""
