"""A server of notes, as it would be without a host: plain SDK, no word of Plughost."""

from mcp.server import MCPServer

mcp = MCPServer("notes", instructions="Keeps short notes by title.")
notes: dict[str, str] = {"welcome": "Notes live as long as the server."}


@mcp.tool()
async def add_note(title: str, text: str) -> str:
    """Keep a note under a title; an older one of the same title is replaced."""
    notes[title] = text
    return f"Kept {title!r}."


@mcp.tool()
async def search_notes(word: str) -> list[str]:
    """Titles of the notes that hold a word."""
    return [title for title, text in notes.items() if word.lower() in f"{title} {text}".lower()]


@mcp.resource("note://{title}")
async def note(title: str) -> str:
    """The text of one note."""
    return notes[title]


@mcp.prompt()
async def summarize(title: str) -> str:
    """Ask for a summary of one note."""
    return f"Summarize in one sentence: {notes[title]}"
