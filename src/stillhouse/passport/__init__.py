"""What a model was made of, in a file that a stranger can check: ``statement`` says it, ``envelope`` signs it,
``verify_passport`` verifies it without ledger and network.
"""
