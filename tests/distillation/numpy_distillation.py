"""The losses and the features as the formulas stand, in NumPy float64."""

import numpy as np

EPSILON = 1e-5


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def cross_entropy(target, logits):
    return -(target * np.log(softmax(logits))).sum(-1).mean()


def distillation(student, teacher, temperature):
    target = softmax(teacher / temperature)
    return temperature**2 * cross_entropy(target, student / temperature)


def normalise(x):
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / np.sqrt(variance + EPSILON)


def features(response, matching, sign, width, alignment):
    """`normalise(rho(k(u)))`; the factor `width` is undone by `normalise`, up to its epsilon."""
    u = response.astype(np.float64)
    if matching.response == "batch_norm":
        u = normalise(u)
    if matching.kernel != "identity":
        u = width * np.exp(np.clip(sign * u / width, -matching.bound, matching.bound))
    if alignment is not None:
        u = (u - u.mean((0, 1, 2))) @ alignment.astype(np.float64)
    return normalise(u)


def effective_rank(eigenvalues):
    eigenvalues = np.asarray(eigenvalues, np.float64)
    return eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
