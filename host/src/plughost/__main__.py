"""`plughost`, and `python -m plughost`."""

from plughost._cli import cli


def main() -> None:
    """Run the command line."""
    cli(prog_name="plughost")


if __name__ == "__main__":
    main()
