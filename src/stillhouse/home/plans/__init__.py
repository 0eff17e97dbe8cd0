"""Plan, approve, execute, receipt: every act with consequences is a value before it is done.

``plan`` makes and executes plans; ``prices`` says what calls cost, ``money`` holds the caps.
"""
