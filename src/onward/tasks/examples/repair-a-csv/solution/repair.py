"""Writes clean.csv and unknown.csv."""

import csv
import datetime
import re

FORMS = ("%Y-%m-%d", "%d.%m.%Y", "%b %d, %Y")


def date(text):
    for form in FORMS:
        try:
            return datetime.datetime.strptime(text.strip(), form).date().isoformat()
        except ValueError:
            continue
    raise ValueError(text)


def amount(text):
    bare = text.strip().lstrip("€ ")
    whole, cents = bare, "00"
    if found := re.fullmatch(r"(.*)[.,](\d\d)", bare):
        whole, cents = found.groups()
    return f"{int(re.sub('[.,]', '', whole))}.{cents}"


with open("customers.csv", encoding="utf-8", newline="") as stream:
    customers = {row["email"]: row["id"] for row in csv.DictReader(stream)}
orders = {}
with open("orders.csv", encoding="utf-8-sig", newline="") as stream:
    header, *rows = csv.reader(stream, delimiter=";")
for row in rows:
    if row and row[0].strip():
        orders[int(row[0])] = (row[1], row[2].strip().lower(), row[3].strip())
lines = {"clean.csv": ["order,date,customer,amount"], "unknown.csv": ["order,date,email,amount"]}
for number, (day, email, money) in sorted(orders.items()):
    if money:
        name = "clean.csv" if email in customers else "unknown.csv"
        lines[name].append(f"{number},{date(day)},{customers.get(email, email)},{amount(money)}")
for name, rows in lines.items():
    with open(name, "w", encoding="utf-8", newline="") as stream:
        stream.write("".join(f"{row}\n" for row in rows))
