"""Random damage of stored studies: detected or not, and its effect on other studies.

python experiments/damage.py --count 200

Each round damages one of eight studies in a copy of a database and reads all of them. A damage is
*detected* if the study cannot be read and the error names it, *without effect* if its trials are
unchanged, else *silent*. ``PYTHONPATH`` selects another version of the package.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sqlite3
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import bo_invert as bi

STUDIES = 8
TRIALS = 25


def made(folder: Path) -> Path:
    """Return a database of finished studies."""
    path = folder / "original.db"
    problem = bi.Problem(bi.Box([0.0] * 3, [1.0] * 3), None, bi.Minimize())
    made = [
        bi.Study.create(f"study {i}", problem, "random", i, f"sqlite:///{path}")
        for i in range(STUDIES)
    ]
    for _ in range(TRIALS):  # the events of the studies alternate in the file
        for study in made:
            study.tell(study.ask()[0], float(len(study.trials)))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def flipped(text: str, rng: random.Random) -> bytes:
    data = bytearray(text.encode())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def changed(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def events(path: Path, study: int) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT seq, data FROM events WHERE study = ? ORDER BY seq"
        return connection.execute(query, (study,)).fetchall()


def flip_in_an_event(path: Path, study: int, rng: random.Random) -> None:
    seq, text = rng.choice(events(path, study))
    statement = "UPDATE events SET data = CAST(? AS TEXT) WHERE study = ? AND seq = ?"
    changed(path, statement, flipped(text, rng), study, seq)


def flip_in_the_header(path: Path, study: int, rng: random.Random) -> None:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT header FROM studies WHERE id = ?"
        (text,) = connection.execute(query, (study,)).fetchone()
    statement = "UPDATE studies SET header = CAST(? AS TEXT) WHERE id = ?"
    changed(path, statement, flipped(text, rng), study)


def delete_one(path: Path, study: int, rng: random.Random) -> None:
    seq, _ = rng.choice(events(path, study))
    changed(path, "DELETE FROM events WHERE study = ? AND seq = ?", study, seq)


def delete_the_last(path: Path, study: int, rng: random.Random) -> None:
    rest = len(events(path, study)) - rng.randint(1, 5)
    changed(path, "DELETE FROM events WHERE study = ? AND seq > ?", study, rest)


def delete_and_renumber(path: Path, study: int, rng: random.Random) -> None:
    seq, _ = rng.choice(events(path, study)[:-2])
    changed(path, "DELETE FROM events WHERE study = ? AND seq = ?", study, seq)
    # In two steps, because positions are unique at any time.
    changed(path, "UPDATE events SET seq = -seq WHERE study = ? AND seq > ?", study, seq)
    changed(path, "UPDATE events SET seq = -seq - 1 WHERE study = ? AND seq < 0", study)


def another_value(path: Path, study: int, rng: random.Random) -> None:
    answers = [(seq, text) for seq, text in events(path, study) if '"loss": ' in text]
    seq, text = rng.choice(answers)
    before, _, rest = text.partition('"loss": ')
    text = f'{before}"loss": -{rest}'
    changed(path, "UPDATE events SET data = ? WHERE study = ? AND seq = ?", text, study, seq)


def flip_in_the_file(path: Path, study: int, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    _, text = rng.choice(events(path, study))
    start = data.find(text.encode())
    data[start + rng.randrange(len(text))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path, int, random.Random], None]] = {
    "bit flip in an event": flip_in_an_event,
    "bit flip in an event, in the file": flip_in_the_file,
    "bit flip in the header": flip_in_the_header,
    "deleted event": delete_one,
    "deleted last events": delete_the_last,
    "deleted event, later ones renumbered": delete_and_renumber,
    "another value": another_value,
}


def contents(path: Path) -> dict[str, str]:
    """Return the trials of each study as text, or the message of the error."""
    found = {}
    for i in range(STUDIES):
        name = f"study {i}"
        try:
            study = bi.Study.open(name, f"sqlite:///{path}")
            trials = [(t.state, t.point.tolist(), t.loss, t.attempts) for t in study.trials]
            found[name] = repr((study.journal.header, study.spent, trials))
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200, help="number of damages")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = random.Random(options.seed)
    table: dict[str, Counter[str]] = {kind: Counter() for kind in DAMAGES}
    with tempfile.TemporaryDirectory() as root:
        original = made(Path(root))
        expected = contents(original)
        for number in range(options.count):
            kind = list(DAMAGES)[number % len(DAMAGES)]
            path = Path(root) / "damaged.db"
            shutil.copyfile(original, path)
            study = rng.randrange(STUDIES)
            DAMAGES[kind](path, study + 1, rng)
            found = contents(path)
            name = f"study {study}"
            if found[name] == expected[name]:
                effect = "without effect"
            elif found[name].startswith("("):
                effect = "silent"
            else:
                effect = "detected" if name in found[name] else "error without the name"
            table[kind][effect] += 1
            table[kind]["others"] += sum(
                found[other] != expected[other] for other in expected if other != name
            )
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
    columns = ("detected", "error without the name", "silent", "without effect", "others")
    print(f"| damage | number | {' | '.join(columns)} |")
    print("|---|" + "---:|" * (len(columns) + 1))
    for kind, counts in table.items():
        number = sum(counts[column] for column in columns[:-1])
        print(f"| {kind} | {number} | {' | '.join(str(counts[c]) for c in columns)} |")


if __name__ == "__main__":
    main()
