"""The text fields of a form, found while its bytes pass."""

from collections.abc import Callable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

#: A field above this size in bytes is passed over, and so are all once they have this together.
LARGEST_FIELD = 1 << 16
LARGEST_FORM = 1 << 20


class FormFields:
    """Reads a multipart body as it passes; of files nothing is kept.

    `fields` are the parts without a file name, each complete, at most 64 KiB and UTF-8 (what is not is replaced); of
    equal names the first counts. `broken`: the body is no such form, or ended early, and nothing more is read.
    """

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[str, str] = {}
        self.broken = False
        self._room = LARGEST_FORM
        self._ended = False
        self._header, self._value = bytearray(), bytearray()
        self._name: str | None = None
        self._text = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_begin": self._header_begins,
                "on_header_field": adding_to(self._header),
                "on_header_value": adding_to(self._value),
                "on_header_end": self._header_ends,
                "on_part_data": self._data,
                "on_part_end": self._part_ends,
                "on_end": self._end,
            },
        )

    @classmethod
    def of(cls, content_type: bytes) -> "FormFields | None":
        """For a body of this Content-Type; None where it is no multipart/form-data with a boundary."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind.strip() != b"multipart/form-data" or not boundary:
            return None
        try:
            return cls(boundary)
        except FormParserError:
            return None

    def feed(self, data: bytes) -> None:
        """The next piece of the body. Never raises: a node is to refuse a malformed one."""
        if self.broken or self._ended:
            return
        try:
            self._parser.write(data)
        except FormParserError:
            self.broken = True

    def finish(self) -> None:
        """The body is over."""
        self.broken = self.broken or not self._ended

    def _part_begins(self) -> None:
        self._name = None
        self._text.clear()

    def _header_begins(self) -> None:
        self._header.clear()
        self._value.clear()

    def _header_ends(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            name = options.get(b"name")
            self._name = None if name is None or options.get(b"filename") else name.decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name is None:
            return
        if len(self._text) + end - start > min(LARGEST_FIELD, self._room):
            self._name = None
        else:
            self._text += data[start:end]

    def _part_ends(self) -> None:
        if self._name is not None and self._name not in self.fields:
            self.fields[self._name] = self._text.decode("utf-8", "replace")
            self._room -= len(self._text)

    def _end(self) -> None:
        self._ended = True


def adding_to(buffer: bytearray) -> Callable[[bytes, int, int], None]:
    def add(data: bytes, start: int, end: int) -> None:
        buffer.extend(data[start:end])

    return add
