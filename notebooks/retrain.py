# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Load a log, train, look, promote
#
# What `nextmove train`, `evaluate` and `promote` do, step by step, for whoever wants to look closer or to
# change something on the way. It works in a state directory of its own, with a small simulated shop, and
# removes it at the end; with your own, `settings = load_settings(os.environ, directory=Path.cwd())`.

# %%
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt

from nextmove import steps
from storage.blobs import BlobStore
from storage.bundles import bundle_pointer
from storage.settings import Settings
from training.calibration import reliability
from training.domains.simulated import Simulated
from training.evaluation_run import evaluate_run
from training.example_sources import examples_of
from training.examples import met_by_customers
from training.model_input import encode_shown
from training.promotion import promote
from training.tracking import CHAMPION, Tracking
from training.training_run import train

# %%
here = TemporaryDirectory()
settings = Settings(home=Path(here.name))
now = datetime.now(UTC)
shop = Simulated(seed=3, customers=500, decisions=20_000)
steps.open_home(settings)
steps.release_catalog(settings, now=now, reason="a notebook")
steps.ingest_domain(settings, shop, now=now, progress=lambda _: None)
catalog = steps.released(settings).everywhere

# %% [markdown]
# ## The log
#
# One row is one action that a customer met: with which probability it was chosen, among what, what was
# known of the customer then, and what came of it. The shop's own log and the service's ledger look alike.

# %%
examples = examples_of(shop, settings, catalog, now=now)
examples[["decided_at", "customer_id", "placement", "action_id", "probability", "success", "reward"]].head()

# %%
assert len(examples) == 20_000
assert examples["probability"].between(0, 1).all()
examples.groupby("placement")[["success", "reward"]].mean().round(3)

# %% [markdown]
# ## Train
#
# On earlier rows, calibrated on later ones, judged on the latest. `learner="linear"` would give a model
# that also says how sure it is. The model is registered in MLflow as challenger; nothing is served yet.

# %%
trained = train(examples, settings, catalog=catalog, now=now, seed=1)
assert trained.metrics["log_loss"] < trained.metrics["base_rate_log_loss"]
trained.metrics

# %%
trained.by_action.head(10).round(3)

# %% [markdown]
# ## Calibration
#
# Of customers to whom it gives 5 %, 5 of 100 should respond: propensities are multiplied by values.

# %%
test = met_by_customers(examples).iloc[trained.model.split.test]
propensities = trained.model.propensities(encode_shown(trained.model.features, test, catalog))
score, rate, rows = reliability(propensities, test["success"].to_numpy()).T
figure, axes = plt.subplots(figsize=(4.5, 4), layout="constrained")
axes.plot([0, score.max()], [0, score.max()], color="0.7")
axes.errorbar(score, rate, yerr=1.96 * (rate * (1 - rate) / rows) ** 0.5, fmt="o")
axes.set(xlabel="propensity", ylabel="success rate", title="Test slice, ten bins")
plt.show()
assert trained.metrics["calibration_error"] < 0.02

# %% [markdown]
# ## Value
#
# What acting on it would have earned, estimated from decisions later than all that it learnt from.

# %%
report = evaluate_run(examples, settings, catalog=catalog, now=now)
values = {each.policy: each.estimate for each in report.values if (each.metric, each.estimator) == ("reward", "dr")}
figure, axes = plt.subplots(figsize=(7, 0.35 * len(values) + 1), layout="constrained")
for place, estimate in enumerate(values.values()):
    axes.plot([estimate.low, estimate.high], [place, place], color="C0")
    axes.plot(estimate.value, place, "o", color="C0")
axes.set_yticks(range(len(values)), list(values))
axes.set_xlabel("euros a decision, doubly robust, with 95 % interval")
plt.show()

# %% [markdown]
# The log's policy was uniform, so the estimate for uniform must be about what was earned.

# %%
uniform = values["uniform"]
standard_error = (uniform.high - uniform.low) / (2 * 1.96)
assert abs(uniform.value - report.logged["reward"]) < 4 * standard_error

# %% [markdown]
# ## Promote
#
# The gate lets it through, or says why not. A first model need only not be measurably worse than uniform;
# later ones must be measurably better than the champion, the best constant action and uniform.

# %%
promotion = promote(examples, settings, catalog=catalog, now=now, report=report)
print("\n".join(promotion.verdict.findings))

# %%
champion = Tracking(settings).version_by_alias(settings.domain, CHAMPION)
blobs = BlobStore(settings)
assert champion.version == trained.version
assert blobs.pointer(bundle_pointer(settings.domain)) == trained.bundle.sha256
blobs.close()
here.cleanup()
