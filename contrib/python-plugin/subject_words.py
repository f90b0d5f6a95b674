#!/usr/bin/python3
"""A plugin of Postern in Python: words that a subject must not hold.

A client that sends such a subject is forgiven so many times a day, with points;
from then on it is refused. What a client did is kept in the server's memory, which
scripts see as store.get{"subject_words", ip}.
"""

import email.header
import email.parser
import email.policy
import unicodedata

import postern_plugin as postern

DAY = 86400


def subject_of(header):
    """The Subject as a reader sees it; what can't be decoded is taken as it is."""
    raw = email.parser.BytesHeaderParser(policy=email.policy.compat32).parsebytes(header)["Subject"]
    if raw is None:
        return ""
    try:
        text = str(email.header.make_header(email.header.decode_header(raw)))
    except (LookupError, ValueError):
        text = str(raw)
    return unicodedata.normalize("NFKC", text).casefold()


class SubjectWords(postern.Policy):
    name = "subject-words"
    version = "1.0"
    about = "Refuses clients whose subjects hold words of a list."
    access = postern.HEADERS
    immune = ("relaying", "authenticated")
    settings = [
        postern.setting("words", "list", ["casino", "lottery"], of="string", doc="words that a subject must not hold"),
        postern.setting("forgiven", "integer", 0, doc="mails a day of one client that only get points"),
        postern.setting("points", "number", 4, doc="for a mail that is forgiven"),
    ]

    def prepare(self):
        if not any(word.strip() for word in self.words):
            return [("words", "is empty; write a word, or leave the policy out")]
        self.looked_for = [unicodedata.normalize("NFKC", word).casefold() for word in self.words if word.strip()]
        return []

    def headers(self, event):
        subject = subject_of(event.header)
        found = next((word for word in self.looked_for if word in subject), None)
        if found is None:
            return None
        self.host.count("subject_words", {"word": found})
        times = self.host.incr(("subject_words", event.session.client_ip), ttl=DAY)
        postern.log.info("a word of the list", extra={"keys": {"word": found, "times": times, "id": event.id}})
        if times > self.forgiven:
            return postern.reject("5.7.1", f"The subject holds the word {found}")
        return postern.decide(edits=[
            postern.score("subject_words", self.points, f"the word {found}, {times} of {int(self.forgiven)}"),
            postern.edit("headers:append", name="X-Subject-Word", value_=found),
        ])


if __name__ == "__main__":
    postern.serve(SubjectWords())
