"""How large a paired difference is, and how small a one this many rows could have shown."""

from __future__ import annotations

import math

from scipy import optimize, stats


def cohens_dz(mean: float, standard_deviation: float) -> float | None:
    """Return Cohen's d_z, the mean paired delta over the deltas' standard deviation.

    The usual effect size of a paired design; None where the deltas do not vary.
    """
    return mean / standard_deviation if standard_deviation > 0 else None


def discordant_odds_ratio(gained: int, lost: int) -> float | None:
    """Return gained / lost, the conditional odds ratio that McNemar's test is about.

    None where no row was lost (the ratio is infinite, or undefined when none was gained).
    """
    return gained / lost if lost else None


def minimal_detectable_effect(
    standard_deviation: float, rows: int, *, alpha: float = 0.05, power: float = 0.80
) -> float | None:
    """Return the smallest true mean delta that a two-sided paired t-test would have found.

    Found: significant at level `alpha` and with the right sign, with probability `power`,
    given `rows` independent clusters whose deltas have this standard deviation. None for
    fewer than two rows or no variance.
    """
    if rows < 2 or standard_deviation <= 0:
        return None
    freedom = rows - 1
    critical = float(stats.t.ppf(1 - alpha / 2, freedom))

    def shortfall(noncentrality: float) -> float:
        return float(stats.nct.sf(critical, freedom, noncentrality)) - power

    most = critical + 6.0
    while shortfall(most) < 0:
        most *= 1.5
    noncentrality = float(optimize.brentq(shortfall, 0.0, most, xtol=1e-10))
    return noncentrality * standard_deviation / math.sqrt(rows)
