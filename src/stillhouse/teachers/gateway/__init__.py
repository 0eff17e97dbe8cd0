"""The recording gateway: any tool that speaks OpenAI's or Anthropic's dialect, by changing its base URL.

``dialects`` knows the paths and how to read requests, answers and streams; ``keys`` who may call; ``admission`` decides
before a call (key, model, policy, money); ``journal`` writes down every byte before anyone sees it; ``server`` carries calls
over HTTP; ``counters`` are what the workers share with the process that watches them. No I/O but in ``server``.
"""
