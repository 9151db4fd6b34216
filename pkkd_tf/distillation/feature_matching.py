"""How the responses of matched layers are compared: the open choices, and their checks."""

import dataclasses

KERNELS = ("exponential", "rbf", "identity")
RESPONSES = ("batch_norm", "raw")
TEACHER_SIDES = ("fixed", "trained")


@dataclasses.dataclass(frozen=True)
class FeatureMatching:
    """How the responses of a student's adder layer and its teacher's convolution are compared.

    PKKD (Xu et al., NeurIPS 2020, arXiv 2009.13044) maps each response through a kernel of its
    own and a linear transform before it compares them. This is a reconstruction of PKKD: the
    paper's abstract and tables are what was at hand, so every choice is an argument. With `r` a
    raw response (before batch normalization) and `u` what the kernel sees of it:

        u        = (r - mean) / std over the batch            response="batch_norm", or r itself
        student  h = exp(u / (2 sigma^2))                     or u for kernel="identity"
        teacher  g = exp(teacher_sign * u / (2 sigma^2))      or u
        features = normalise(rho(h)), normalise(g or rho(g))  rho: 1x1 convolution
        loss     = mean((student features - teacher features)^2), in [0, 4]

    A response is the l1 distance `-sum |x - f|` of the student and the product `x * f` of the
    teacher; for `kernel="rbf"` it is the teacher's squared l2 distance `-||x - f||^2`, taken of its
    layer's inputs and filters (`pkkd_tf.distillation.SquaredDistance`). Most of that distance is
    `|x|^2`, which all channels share: the teacher's features were measured to have an effective
    rank of 1.0 (of 16 to 64) in a new ResNet-20, where those of the product have 14 to 50.

    `normalise` subtracts the mean and divides by the standard deviation of the batch, so zero
    features are no answer to the loss, and a gradient flows through both.

    Attributes:
        kernel: `"exponential"` (Laplace kernel of the L1 distance, exponential kernel of the
            product), `"rbf"` (Laplace kernel of the L1 distance, Gaussian kernel of the L2
            distance) or `"identity"` (linear features).
        teacher_sign: -1 (the paper's notation as far as known) or +1 (a larger product means a
            larger similarity; measured better, the default); +1 for `"rbf"`.
        response: `"batch_norm"` or `"raw"`; the exponents of raw adder responses start at
            `response / fan_in`, since sigma = 1 would underflow to exp(-100). Where nothing in
            the teacher resembles them, their width can still shrink until all exponents are
            clipped: effective rank 0, and no gradient that leads back.
        student_alignment: whether the student's kernel is followed by rho.
        teacher_side: `"fixed"` (no alignment, width not trained; the default) or `"trained"`
            (both are; then one rank-1 feature map can satisfy the loss: watch effective rank).
        teacher_gradient: whether the feature loss may also change the teacher.
        bound: exponents are clipped to `[-bound, bound]`.

    Raises:
        ValueError: an argument out of the values above.

    Example:
        >>> FeatureMatching(kernel="identity", student_alignment=False)
    """

    kernel: str = "exponential"
    teacher_sign: int = 1
    response: str = "batch_norm"
    student_alignment: bool = True
    teacher_side: str = "fixed"
    teacher_gradient: bool = False
    bound: float = 10.0

    def __post_init__(self) -> None:
        """Checks every argument."""
        choices = {"kernel": KERNELS, "response": RESPONSES, "teacher_side": TEACHER_SIDES}
        for name, allowed in {**choices, "teacher_sign": (-1, 1)}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"`{name}` must be one of {allowed}. Received: {name}={getattr(self, name)!r}"
                )
        if self.kernel == "rbf" and self.teacher_sign != 1:
            raise ValueError(
                '`teacher_sign` must be 1 for kernel="rbf", a kernel of a distance. '
                f"Received: teacher_sign={self.teacher_sign}"
            )
        if not self.bound > 0:
            raise ValueError(f"`bound` must be above 0. Received: bound={self.bound}")
