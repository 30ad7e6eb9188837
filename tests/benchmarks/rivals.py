"""The forecasters that `forecasters` compares with: each gives quantiles of the highest load until lead time is over.

All of them see the same one-minute grid. Each returns, for each level, an array over the minutes that has a forecast
where one was made, and the CPU seconds that a fit and a forecast took, a number for each time.
"""

import logging
import resource
import warnings

import lightgbm
import numpy
import pandas
from statsforecast.models import MSTL, AutoETS

logging.getLogger("prophet.plot").disabled = True  # It says at import that plotly is not there.
from prophet import Prophet  # noqa: E402

logging.getLogger("cmdstanpy").disabled = True
warnings.simplefilter("ignore")

LEVELS = (0.95, 0.99)
DAY = 1440
HISTORY = 28 * DAY
STEP = 5  # minutes; the models with a grid of their own work on means of so many
SEASONS = [DAY // STEP, 7 * DAY // STEP]
# Loess is computed at a tenth of the points and interpolated between, as in R's stl; statsforecast's default, every
# point, takes 20 s instead of less than one.
JUMPS = {"seasonal_jump": 2, "trend_jump": 100, "low_pass_jump": 50}
TREND = AutoETS(model="ZZN")
BOTH_SIDES = [round(200 * level - 100) for level in LEVELS]  # Its intervals whose upper ends are LEVELS.


class Load:
    """A load by minute, NaN in gaps, and what is forecast of it."""

    def __init__(self, qps, lead, origins):
        self.qps, self.lead, self.origins = qps, lead, origins
        self.every = int(origins[1] - origins[0])
        ahead = pandas.Series(qps[::-1]).rolling(lead + 1).max().to_numpy()[::-1]
        self.peak = ahead  # The highest from a minute until a replica added then is ready.
        self.level = 0.1 * numpy.nanmean(qps[: origins[0]])  # Below it errors do not matter.
        # Forecasts for calibration begin before those that are scored.
        self.first = origins[0] - min(7 * DAY, origins[0] // 2 // STEP * STEP)

    def history(self, origin):
        """Means of STEP minutes that end at `origin`, gaps filled linearly."""
        steps = min(HISTORY, origin) // STEP
        values = self.qps[origin - steps * STEP : origin].reshape(steps, STEP)
        mean = pandas.DataFrame(values).mean(axis=1)
        return mean.interpolate(limit_direction="both").to_numpy()

    def steps_ahead(self):
        return -(-(self.lead + 1) // STEP)

    def highest(self, path):
        """The highest of a path of means of STEP minutes (last axis), taken as straight between their centres."""
        minutes = numpy.arange(self.lead + 1) + 0.5
        place = numpy.clip((minutes - STEP / 2) / STEP, 0, path.shape[-1] - 1)
        below = place.astype(int)
        above = numpy.minimum(below + 1, path.shape[-1] - 1)
        return (path[..., below] + (path[..., above] - path[..., below]) * (place - below)).max(axis=-1)

    def empty(self):
        return {level: numpy.full(len(self.qps), numpy.nan) for level in LEVELS}


def seasons_of(history):
    """Those that it has seen twice."""
    return [season for season in SEASONS if 2 * season <= len(history)]


def cpu_seconds():
    """Of this process and of those it started and has seen end."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def naive(ago):
    """What it was so many minutes ago; None stands for the last value."""

    def forecast(load):
        source = load.qps if ago is None else load.peak
        point = numpy.full(len(load.qps), numpy.nan)
        shift = 1 if ago is None else ago
        point[shift:] = source[: len(source) - shift]
        on_grid = numpy.arange(len(point)) % STEP == load.origins[0] % STEP
        return {level: numpy.where(on_grid, point, numpy.nan) for level in LEVELS}, []

    return forecast


def mstl(load):
    """Parameters are estimated once a day; seasons, trend and state are computed at each origin."""
    quantiles, seconds, model, fitted = load.empty(), [], None, None
    before = range(load.origins[0] - load.every, load.first, -load.every)[::-1]
    for origin in [*before, *load.origins]:
        history, ahead = load.history(origin), load.steps_ahead()
        seasons = seasons_of(history)
        began = cpu_seconds()
        if model is None or origin - fitted >= DAY or seasons != model.season_length:
            fitted, model = origin, MSTL(seasons, trend_forecaster=TREND, stl_kwargs=JUMPS).fit(history)
            path = model.predict(h=ahead, level=BOTH_SIDES)
            seconds.append(cpu_seconds() - began)
        else:
            path = model.forward(history, h=ahead, level=BOTH_SIDES)
        for level, both_sides in zip(LEVELS, BOTH_SIDES):
            quantiles[level][origin] = max(load.highest(numpy.asarray(path[f"hi-{both_sides}"])), 0.0)
    return quantiles, seconds


def prophet(load):
    """Fitted once a day; quantiles of the highest of sampled paths."""
    quantiles, seconds = load.empty(), []
    width = load.steps_ahead()
    for origin in range(load.first, load.origins[-1] + 1, DAY):
        history = load.history(origin)
        times = pandas.date_range("2024-01-01", periods=len(history) + DAY // STEP + width, freq=f"{STEP}min")
        began = cpu_seconds()
        paths = prophet_paths(history, times)
        for row in range(DAY // STEP):
            at = origin + row * STEP
            if at < len(load.qps):
                highest = load.highest(paths[row : row + width].T)
                for level, quantile in zip(LEVELS, numpy.quantile(highest, LEVELS)):
                    quantiles[level][at] = max(quantile, 0.0)
            if row == 0:
                seconds.append(cpu_seconds() - began)
    return quantiles, seconds


def prophet_paths(history, times):
    """Sampled paths of what comes after `history`; `times` are those of both."""
    model = Prophet().fit(pandas.DataFrame({"ds": times[: len(history)], "y": history}))
    return model.predictive_samples(pandas.DataFrame({"ds": times[len(history) :]}))["yhat"]


def features(load, start):
    """What is known just before each minute: levels, slopes, yesterday, last week, the week before, time, weekday."""
    second = start + 60 * numpy.arange(len(load.qps))
    qps, peak = pandas.Series(load.qps), pandas.Series(load.peak)
    mean = {width: qps.rolling(width, min_periods=1).mean().shift(1) for width in (1, 5, 15, 60)}
    columns = [*mean.values(), mean[5] - mean[5].shift(15), mean[15] - mean[15].shift(60)]
    columns += [peak.shift(days * DAY) for days in (1, 7, 14)]
    columns += [mean[15].shift(days * DAY) for days in (1, 7)]
    return numpy.column_stack([*columns, second % 86400, second // 86400 % 7])


def boosted(known, load, rows, level, **how):
    """LightGBM trained on those of `rows` whose peak is known; `how` goes to it."""
    rows = rows[numpy.isfinite(load.peak[rows])]
    loss = {"objective": "quantile", "alpha": level, "num_threads": 1, "verbose": -1}
    return lightgbm.train(loss, lightgbm.Dataset(known[rows], load.peak[rows]), **how)


def gradient_boosting(start):
    """LightGBM quantile regression of the highest load itself, trained anew every three days."""

    def forecast(load):
        quantiles, seconds = load.empty(), []
        known = features(load, start)
        for origin in range(load.first, load.origins[-1] + 1, 3 * DAY):
            rows = numpy.arange(origin - min(HISTORY, origin) // STEP * STEP, origin - load.lead, STEP)
            ahead = numpy.arange(origin, min(origin + 3 * DAY, len(load.qps)), STEP)
            began = cpu_seconds()
            for level in LEVELS:
                model = boosted(known, load, rows, level, num_boost_round=80)
                quantiles[level][ahead] = numpy.maximum(model.predict(known[ahead]), 0.0)
            seconds.append(cpu_seconds() - began)
        return quantiles, seconds

    return forecast


def with_defaults(load, start):
    """CPU seconds of one fit and forecast before the last origin, by name: on the minutes themselves, as ours, and with
    the libraries' defaults. MSTL alone has means of STEP minutes, as minutes would take it far longer."""
    origin, ahead = load.origins[-1], load.lead + 1
    began_at = max(origin - HISTORY, 0)
    minutes = pandas.Series(load.qps[began_at:origin]).interpolate(limit_direction="both").to_numpy()
    means, known, rows = load.history(origin), features(load, start), numpy.arange(began_at, origin - load.lead)

    def by_mstl():
        MSTL(seasons_of(means), trend_forecaster=TREND).fit(means).predict(h=load.steps_ahead(), level=BOTH_SIDES)

    def by_prophet():
        prophet_paths(minutes, pandas.date_range("2024-01-01", periods=len(minutes) + ahead, freq="1min"))

    def by_boosting():
        for level in LEVELS:
            boosted(known, load, rows, level).predict(known[[origin]])

    for name, fit_and_forecast in zip(all_of(start), (by_mstl, by_prophet, by_boosting)):
        began = cpu_seconds()
        fit_and_forecast()
        yield name, cpu_seconds() - began


def all_of(start):
    """By name. `start` is the Unix second of minute 0."""
    return {
        "MSTL + AutoETS": mstl,
        "Prophet": prophet,
        "LightGBM quantiles": gradient_boosting(start),
        "last value": naive(None),
        "yesterday": naive(DAY),
        "last week": naive(7 * DAY),
    }


def calibrations(load, raw):
    """A rival's quantiles at the origins: as they are, and moved by how far the peaks of the past lay above them,
    by a share or by an amount."""
    to_log = lambda qps: numpy.log(qps + load.level)  # noqa: E731
    from_log = lambda logs: numpy.exp(logs) - load.level  # noqa: E731
    same = lambda qps: qps  # noqa: E731
    yield "as it is", {level: raw[level][load.origins] for level in LEVELS}
    for name, there, back in (("by share", to_log, from_log), ("by amount", same, same)):
        made = {}
        for level in LEVELS:
            errors = there(load.peak) - there(raw[level])
            moved = [there(raw[level][at]) + past_quantile(errors, level, at, load.lead) for at in load.origins]
            made[level] = numpy.maximum(back(numpy.array(moved)), 0.0)
        yield name, made


def past_quantile(errors, level, origin, lead):
    """The quantile of those of the last four weeks that are known at `origin`; 0 where there are fewer than ten."""
    past = errors[max(origin - HISTORY, 0) : origin - lead]
    past = past[numpy.isfinite(past)]
    return numpy.quantile(past, level, method="higher") if len(past) >= 10 else 0.0
