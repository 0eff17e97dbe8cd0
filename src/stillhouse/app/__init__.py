"""The composition root and public API: ``open_app(settings)`` gives an ``App``; everything that can be done hangs on it."""

from stillhouse.app.home import App, create_home, open_app

__all__ = ["App", "create_home", "open_app"]
