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
# # What would another policy have earned?
#
# Every decision is logged with the probability of what was chosen. So a policy that was never run can be
# valued on the log, and in the simulated shop, whose truth is known, that value can be checked.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from decisioning.evaluation import Bootstrap, Log, inverse_propensity, self_normalised
from training.domains.simulated import Simulated
from training.world import Visit
from training.world_actions import ALL_ACTIONS

shop = Simulated(seed=1, customers=4_000, decisions=30_000)
log = shop.log()
log = log[log["placement"] == "product_page"].reset_index(drop=True)
log[["decided_at", "customer_id", "action_id", "probability", "reward"]].head()

# %% [markdown]
# The log's policy was uniform over what placement and consent allowed. As arrays:

# %%
actions = shop.world.action_ids
column = {action: place for place, action in enumerate(actions)}
available = np.zeros((len(log), len(actions)), dtype=bool)
for row, candidates in enumerate(log["candidates"]):
    available[row, [column[action] for action in candidates]] = True
logged = Log(
    reward=log["reward"].to_numpy(),
    action=log["action_id"].map(column).to_numpy(),
    probability=log["probability"].to_numpy(),
    customer=pd.factorize(log["customer_id"])[0],
    available=available,
)
print(
    f"{len(log):,} decisions of {log['customer_id'].nunique():,} customers earned {logged.reward.mean():.3f} euros each"
)

# %% [markdown]
# Two policies that nobody ran: one shows fashion only, one electronics only, either uniformly.


# %%
def only(*words: str) -> np.ndarray:
    """Uniform over the available actions of these groups."""
    groups = {action.id: action.group for action in ALL_ACTIONS}
    wanted = available & np.array([groups[action] in words for action in actions])
    return wanted / wanted.sum(axis=1, keepdims=True)


policies = {
    "as logged": available / available.sum(axis=1, keepdims=True),
    "fashion": only("fashion"),
    "electronics": only("electronics"),
}
terms = {
    f"{name} {label}": estimator(logged, target)
    for name, target in policies.items()
    for label, estimator in (("IPS", inverse_propensity), ("SNIPS", self_normalised))
}
bootstrap = Bootstrap(terms, logged.customer, rng=np.random.default_rng(1))
estimates = {name: bootstrap.estimate(name) for name in terms}

# %% [markdown]
# The truth of the same visits, from the world itself:

# %%
place = {customer: index for index, customer in enumerate(shop.world.customers.ids)}
visits = [
    Visit(place[row.customer_id], row.customer_id, row.placement, row.context, row.decided_at.to_pydatetime())
    for row in log.itertuples()
]
expected = shop.world.expected_reward(visits, log["contacts"].tolist())
truth = {name: float((target * expected).sum(axis=1).mean()) for name, target in policies.items()}
truth

# %%
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for row, (name, estimate) in enumerate(estimates.items()):
    axes.plot([estimate.low, estimate.high], [row, row], color="C0")
    axes.plot(estimate.value, row, "o", color="C0")
    axes.plot(truth[name.rpartition(" ")[0]], row, "x", color="C3")
axes.set_yticks(range(len(estimates)), list(estimates))
axes.set_xlabel("euros a decision: estimate with 95 % interval, and the truth (x)")
plt.show()

# %% [markdown]
# Every interval holds the truth (within four standard errors, so that a draw of the log's luck is no mistake).

# %%
for name, estimate in estimates.items():
    standard_error = (estimate.high - estimate.low) / (2 * 1.96)
    assert abs(estimate.value - truth[name.rpartition(" ")[0]]) < 4 * standard_error, name
