"""``python -m elyra_server``: the same as ``jupyter elyra``."""

from elyra_server.app import main

if __name__ == "__main__":
    main()
