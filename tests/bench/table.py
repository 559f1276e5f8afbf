"""Rows of the result: what | ours | limit | ratio | bar | met."""

COLUMNS = ("what", "ours", "limit", "ratio", "bar", "met")


def figure(value):
    """A number as people read it; text stays as it is."""
    if value is None or isinstance(value, str):
        return value or ""
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


class Table:
    def __init__(self):
        self.rows = []

    def add(self, part, what, ours, limit=None, ratio=None, bar=None, unit="", note=""):
        """`bar` is (">=" or "<=", number) and judges `ratio`, or `ours` where there is none; None: shown only."""
        met = None
        if bar:
            judged = ratio if ratio is not None else ours
            met = None if judged is None else judged >= bar[1] if bar[0] == ">=" else judged <= bar[1]
        self.rows.append({"part": part, "what": what, "ours": ours, "limit": limit, "ratio": ratio, "unit": unit,
                          "bar": f"{bar[0]} {bar[1]:,g}" if bar else "", "met": met, "note": note})

    def judge_ours(self, bar):
        """Judges the last row's own figure, not its ratio."""
        row = self.rows[-1]
        row["bar"] = f"{bar[0]} {bar[1]:,g}"
        row["met"] = row["ours"] >= bar[1] if bar[0] == ">=" else row["ours"] <= bar[1]

    def text(self):
        lines = [COLUMNS]
        for row in self.rows:
            unit = f" {row['unit']}" if row["unit"] else ""
            lines.append((row["what"], figure(row["ours"]) + unit if row["ours"] is not None else "not measured",
                          figure(row["limit"]), figure(row["ratio"]), row["bar"],
                          "" if not row["bar"] else "?" if row["met"] is None else "yes" if row["met"] else "NO"))
        widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]

        def shown(line):
            cells = [line[0].ljust(widths[0])] + [line[i].rjust(widths[i]) for i in range(1, 6)]
            return "  ".join(cells).rstrip()

        out, part = [shown(COLUMNS), "  ".join("-" * width for width in widths)], None
        for row, line in zip(self.rows, lines[1:]):
            if row["part"] != part:
                part = row["part"]
                out.append(f"[{part}]")
            out.append(shown(line))
        notes = [f"- {row['what']}: {row['note']}" for row in self.rows if row["note"]]
        return "\n".join(out + ([""] + list(dict.fromkeys(notes)) if notes else []))
