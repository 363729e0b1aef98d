"""Serves taxi trips over HTTP, so that the example works without a network.

    python source_server.py [--port 8765] [--rows 2000] [--seed 7] [--folder DIR]

The trips and the passenger list are synthetic: invented from a seed, in the columns of the New York Taxi and
Limousine Commission (`green_tripdata_YYYY-MM.csv.gz`, `yellow_tripdata_YYYY-MM.csv.gz`) and of the
Titanic list (`titanic.csv`). The same seed gives the same bytes, for any month. With --folder, files in that
folder are served in their place. The standard library is all it needs.
"""

import argparse
import calendar
import contextlib
import csv
import gzip
import io
import random
import re
from datetime import datetime, timedelta
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TRIPS = re.compile(r"(green|yellow)_tripdata_(\d{4})-(0[1-9]|1[0-2])\.csv\.gz")
FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

COLUMNS = {
    "green": (
        "VendorID,lpep_pickup_datetime,lpep_dropoff_datetime,store_and_fwd_flag,RatecodeID,PULocationID,"
        "DOLocationID,passenger_count,trip_distance,fare_amount,extra,mta_tax,tip_amount,tolls_amount,ehail_fee,"
        "improvement_surcharge,total_amount,payment_type,trip_type,congestion_surcharge"
    ),
    "yellow": (
        "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,RatecodeID,"
        "store_and_fwd_flag,PULocationID,DOLocationID,payment_type,fare_amount,extra,mta_tax,tip_amount,"
        "tolls_amount,improvement_surcharge,total_amount,congestion_surcharge"
    ),
}
PASSENGER_COLUMNS = "PassengerId,Survived,Pclass,Name,Sex,Age,SibSp,Parch,Ticket,Fare,Cabin,Embarked"
FAMILY_NAMES = ("Ashdown", "Bellamy", "Carrow", "Dunmore", "Ekberg", "Fairley", "Grantham", "Holloway")
GIVEN_NAMES = {"male": ("Arthur", "Edwin", "Karl", "Owen"), "female": ("Ada", "Edith", "Greta", "Maud")}


@lru_cache(maxsize=64)
def trips_file(colour, year, month, rows, seed):
    """Return a month of trips as the bytes of a .csv.gz."""
    dice = random.Random(f"{seed}:{colour}:{year}-{month}")
    trips = (trip(dice, colour, datetime(year, month, 1)) for _ in range(rows))
    text = csv_text(COLUMNS[colour], trips)
    return gzip.compress(text.encode(), mtime=0)


def trip(dice, colour, month):
    """Invent one trip. As in the real files, some lack what the meter did not send, and some never moved."""
    prefix = "lpep" if colour == "green" else "tpep"
    _, days = calendar.monthrange(month.year, month.month)
    start = month + timedelta(seconds=dice.randrange(days * 24 * 3600))
    distance = 0.0 if dice.random() < 0.04 else round(dice.lognormvariate(0.8, 0.8), 2)
    fare = round(2.5 + 2.5 * distance, 2)
    tip = round(fare * dice.choice((0, 0, 0.15, 0.2)), 2)
    row = {
        f"{prefix}_pickup_datetime": start,
        f"{prefix}_dropoff_datetime": start + timedelta(seconds=60 + int(distance * 240)),
        "PULocationID": dice.randint(1, 265),
        "DOLocationID": dice.randint(1, 265),
        "trip_distance": distance,
        "fare_amount": fare,
        "extra": dice.choice((0, 0.5, 1)),
        "mta_tax": 0.5,
        "tip_amount": tip,
        "tolls_amount": 6.12 if dice.random() < 0.03 else 0,
        "improvement_surcharge": 0.3,
    }
    if dice.random() < 0.85:
        row |= {
            "VendorID": dice.choice((1, 2, 2, 2)),
            "store_and_fwd_flag": "Y" if dice.random() < 0.01 else "N",
            "RatecodeID": 1 if dice.random() < 0.95 else 5,
            "passenger_count": dice.choices((0, 1, 2, 3, 5), (3, 75, 14, 5, 3))[0],
            "payment_type": 1 if tip else 2,
            "trip_type": 1,
            "congestion_surcharge": dice.choice((0, 2.75)),
        }
    surcharge = row.get("congestion_surcharge", 0)
    row["total_amount"] = round(fare + row["extra"] + 0.8 + tip + row["tolls_amount"] + surcharge, 2)
    return row


@lru_cache(maxsize=4)
def passengers_file(rows, seed):
    """Return a list of passengers as the bytes of a .csv, with gaps in the columns that have them."""
    dice = random.Random(f"{seed}:passengers")
    text = csv_text(PASSENGER_COLUMNS, (passenger(dice, number) for number in range(1, rows + 1)))
    return text.encode()


def passenger(dice, number):
    sex = dice.choice(("male", "male", "female"))
    ticket_class = dice.choice((1, 2, 3, 3))
    name = (
        f"{dice.choice(FAMILY_NAMES)}, {'Mr.' if sex == 'male' else 'Miss.'} {dice.choice(GIVEN_NAMES[sex])}"
    )
    return {
        "PassengerId": number,
        "Survived": int(dice.random() < (0.7 if sex == "female" else 0.2)),
        "Pclass": ticket_class,
        "Name": name,
        "Sex": sex,
        "Age": None if dice.random() < 0.2 else dice.randint(1, 75),
        "SibSp": dice.choice((0, 0, 0, 1)),
        "Parch": dice.choice((0, 0, 0, 1)),
        "Ticket": str(dice.randint(10_000, 400_000)),
        "Fare": round(dice.lognormvariate(4 - ticket_class * 0.6, 0.5), 4),
        "Cabin": f"C{dice.randint(1, 150)}" if ticket_class == 1 else None,
        "Embarked": None if dice.random() < 0.01 else dice.choice("SSSCQ"),
    }


def csv_text(columns, rows):
    out = io.StringIO()
    writer = csv.DictWriter(out, columns.split(","), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


class Source(ThreadingHTTPServer):
    """Answers for the files of one seed, or of one folder."""

    daemon_threads = True

    def __init__(self, address, *, rows=2000, seed=7, folder=None):
        super().__init__(address, Handler)
        self.rows = rows
        self.seed = seed
        self.folder = folder

    @property
    def url(self):
        return f"http://{self.server_address[0]}:{self.server_address[1]}"

    def find(self, name):
        """Return the bytes of the file of that name, or None."""
        if self.folder is not None and FILE.fullmatch(name) and (self.folder / name).is_file():
            return (self.folder / name).read_bytes()
        if name == "titanic.csv":
            return passengers_file(891, self.seed)
        match = TRIPS.fullmatch(name)
        if match is None:
            return None
        colour, year, month = match.groups()
        return trips_file(colour, int(year), int(month), self.rows, self.seed)


class Handler(BaseHTTPRequestHandler):
    server: Source

    def do_GET(self):
        content = self.server.find(self.path.lstrip("/"))
        if content is None:
            self.send_error(404, "there are green_ and yellow_tripdata_YYYY-MM.csv.gz, and titanic.csv")
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *args):
        pass


def main():
    parser = argparse.ArgumentParser(description="Serve synthetic taxi trips over HTTP.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8765, help="0 takes any free port (default %(default)s)")
    parser.add_argument("--rows", type=int, default=2000, help="trips in each month (default %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="(default %(default)s)")
    parser.add_argument(
        "--folder", type=Path, help="serve the files of this folder in place of invented ones"
    )
    chosen = parser.parse_args()
    address = (chosen.host, chosen.port)
    with Source(address, rows=chosen.rows, seed=chosen.seed, folder=chosen.folder) as source:
        what = f"the files of {chosen.folder}, else synthetic trips" if chosen.folder else "synthetic trips"
        print(f"serving {what} at {source.url}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            source.serve_forever()


if __name__ == "__main__":
    main()
