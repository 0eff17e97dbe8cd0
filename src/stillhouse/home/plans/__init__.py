"""Plan, approve, execute, receipt: every act with consequences is a value before it is done.

``planning`` makes and executes plans; ``prices`` and ``bounds`` say what calls can cost, ``budgets`` holds the caps.
"""
