"""Reading what `/metrics` says: a number by its name and labels."""

from prometheus_client.parser import text_string_to_metric_families


class Scraped:
    """One scrape."""

    def __init__(self, text):
        self.text = text
        self.families = list(text_string_to_metric_families(text))
        self.samples = [sample for family in self.families for sample in family.samples]

    @classmethod
    def of(cls, gateway):
        """Return what a gateway in this process answers to a scrape."""
        text, _ = gateway.call(gateway.gateway.metrics.exposition, "")
        return cls(text.decode())

    def sum(self, name, **labels):
        """Return the sum over all series of a name that have these labels."""
        return sum(
            each.value
            for each in self.samples
            if each.name == name and labels.items() <= each.labels.items()
        )

    def series(self, name, label):
        """Return the values of a label, by which a name is told apart, that are above 0."""
        return {
            each.labels[label]: each.value
            for each in self.samples
            if each.name == name and each.value
        }

    def counters(self):
        """Return what may never fall: counters, and the parts of histograms."""
        rising = [each for each in self.families if each.type in ("counter", "histogram")]
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in rising
            for sample in family.samples
        }
