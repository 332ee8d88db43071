"""Plain text and source code: a file is a document."""

from collections.abc import Iterator

from rhapsode.corpus.encoding import decode
from rhapsode.corpus.readers.record import Flaw, Opened, Record, read_whole


def read(opened: Opened) -> Iterator[Record | Flaw]:
    data = read_whole(opened)
    if isinstance(data, Flaw):
        yield data
        return
    text, encoding = decode(data, name=opened.name)
    yield Record(text, opened.kind, "", "", {} if encoding == "utf-8" else {"encoding": encoding})
