"""Learn by reward alone: a policy gradient, whose rows weigh as much as their signed advantage.

At each of four places, one of three actions pays 1 and the others pay 0.  The policy is a softmax
over the actions; the gradient of its expected reward is that of the cross-entropy of the actions
taken, each weighed by reward minus mean reward (REINFORCE).
Run: python examples/policy_gradient.py
"""

import numpy as np

import fastbp

PLACES = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
PAYS = np.array([0, 1, 1, 2])  # the action that pays at each place
N_UNITS, N_ROWS, N_STEPS = 16, 64, 1000


def main():
    """Act, compare with the mean, and step along the gradient."""
    rng = np.random.default_rng(0)
    w1, b1 = rng.normal(size=(2, N_UNITS)), np.zeros(N_UNITS)
    w2, b2 = rng.normal(scale=0.1, size=(N_UNITS, 3)), np.zeros(3)
    parameters = [w1, b1, w2, b2]
    velocities = [np.zeros_like(p) for p in parameters]
    for step in range(1, N_STEPS + 1):
        place = rng.integers(len(PLACES), size=N_ROWS)
        x = PLACES[place]
        a1 = fastbp.tanh(fastbp.dense(x, w1, b1))
        z2 = fastbp.dense(a1, w2, b2)
        # an action at random, with the probabilities of the policy
        action = (fastbp.softmax(z2).cumsum(axis=1) < rng.random((N_ROWS, 1))).sum(axis=1)
        action = np.minimum(action, 2)
        reward = (action == PAYS[place]).astype(float)
        advantage = reward - reward.mean()

        _, delta2 = fastbp.softmax_cross_entropy(
            z2, action, sample_weight=advantage, reduction="sum"
        )
        delta1 = fastbp.hidden_error(delta2, w2, a1, activation="tanh")
        gradients = [
            fastbp.weight_gradient(x, delta1),
            fastbp.bias_gradient(delta1),
            fastbp.weight_gradient(a1, delta2),
            fastbp.bias_gradient(delta2),
        ]
        for parameter, gradient, velocity in zip(parameters, gradients, velocities, strict=True):
            fastbp.momentum_step(parameter, gradient, velocity, 0.2, 0.5)
        if step in (1, 100, 500, N_STEPS):
            print(f"step {step:4d}   mean reward {reward.mean():.2f}")

    policy = fastbp.softmax(fastbp.dense(fastbp.tanh(fastbp.dense(PLACES, w1, b1)), w2, b2))
    for place, probability, pays in zip(PLACES, policy, PAYS, strict=True):
        print(f"at {place}: action {pays} with probability {probability[pays]:.3f}")


if __name__ == "__main__":
    main()
