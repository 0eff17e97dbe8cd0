"""Plan, approve, execute, receipt: every act with consequences is a value before it is done.

``plan`` makes and executes plans; ``money`` prices calls and holds the cap.
"""
