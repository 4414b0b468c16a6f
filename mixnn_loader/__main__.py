"""``python -m mixnn_loader`` tells versions and devices, for a bug report."""

from mixnn_loader.command.environment import main

if __name__ == "__main__":
    main()
