"""An opened home: its settings, the facts of its log, the view of them, plans, prices and caps, who may do what."""
