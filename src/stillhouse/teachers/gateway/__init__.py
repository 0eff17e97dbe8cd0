"""The recording gateway: any tool that speaks OpenAI's or Anthropic's dialect, by changing its base URL.

``endpoints`` knows the paths and how to read requests; ``keyring`` who may call; ``admission`` decides before a call (key, model,
policy, money); ``journal`` records every byte before anyone sees it; ``carry`` takes a call to the teacher and back; ``server``
serves HTTP; ``counters`` are what the workers share with the process that watches them (``serve``).
"""
