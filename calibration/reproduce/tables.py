"""The published numbers of the five papers, each with where it stands.

Marks: P printed in the paper; C found in its public code; D counted from public data listings;
M measured or calculated from published values; ? not published.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PAPERS", "Paper", "Published", "find", "published"]


@dataclass(frozen=True, slots=True)
class Published:
    """One published number."""

    table: str
    row: str
    metric: str
    value: float | None  # None: shown in a figure only, or not published
    error: float | None = None  # as printed
    mark: str = "P"


@dataclass(frozen=True, slots=True)
class Paper:
    """Which paper, and what it is called here."""

    name: str
    title: str
    claim: str


PAPERS = {
    "brain2music": Paper(
        "brain2music",
        "Brain2Music: Understanding Music Generation from Human Brain Activity (arXiv:2307.11078)",
        "MuLan and MusicLM are closed. Numbers of other embeddings stand beside the paper's and "
        "are not comparable with them; the embedding is named in each row.",
    ),
    "musical-perception": Paper(
        "musical-perception",
        "Decoding Musical Perception: Music Stimuli Reconstruction from Brain Activity",
        "The honest row is ours; the leaky rows repeat shortcuts of the public notebook, to show "
        "how much each of them adds.",
    ),
    "c2f-ldm": Paper(
        "c2f-ldm",
        "Reverse the auditory processing pathway: Coarse-to-fine audio reconstruction from human "
        "brain activity (C2F-LDM)",
        "The rows of linear decoders are computed; the chain waits for a generator and its "
        "weights.",
    ),
    "synthetic-fmri": Paper(
        "synthetic-fmri",
        "Cross-Modal Neural Translation via Synthetic fMRI (MARY-Nano)",
        "Plumbing, not evidence: the encoder is closed, the image sample is small, and the "
        "correlation of its output with real cortex is nil.",
    ),
    "eeg-to-mel": Paper(
        "eeg-to-mel",
        "Reconstructing Sound From Brain Responses To Music Stimuli (EEG to mel, NMED-T)",
        "A song is a recording here. Under the random-chunk split recognising the recording is "
        "enough; only the splits by person and by song can show decoding.",
    ),
}

_EMBEDDINGS = ("SoundStream", "w2v-BERT", "MuLan-text", "MuLan-music")
_DECODING = {
    ("identification", "test"): ((0.674, 0.016), (0.837, 0.005), (0.817, 0.014), (0.876, 0.015)),
    ("identification", "train"): ((0.764, 0.029), (0.941, None), (0.877, None), (0.992, None)),
    ("correlation", "test"): ((0.184, None), (0.113, None), (0.181, None), (0.307, None)),
    ("correlation", "train"): ((0.255, None), (0.167, None), (0.245, None), (0.538, None)),
}


def _brain2music() -> list[Published]:
    rows = [
        Published("decoding", embedding, f"{metric} {part}", value, error)
        for k, embedding in enumerate(_EMBEDDINGS)
        for (metric, part), values in _DECODING.items()
        for value, error in [values[k]]
    ]
    rows += [
        Published("regions", "median over people", "voxels in a chosen region", 138.5),
        Published("regions", "mean over people", "voxels in a chosen region", 258.6),
        Published("regions", "sub-001", "voxels of the six together", 1460.0),
        Published("genre ablation", "genre not trained on", "identification test", None),
        Published("encoding", "MuLan-music", "voxels with FDR P < .05", None),
        Published("encoding", "audio and text", "unique variance", None),
    ]
    rows += [
        Published("encoding weights", f"PC{k}", "share of variance", value)
        for k, value in enumerate((0.258, 0.110, 0.054), start=1)
    ]
    rows += [
        Published("reconstruction", name, "top-n class agreement", None)
        for name in ("genres (2 of 25)", "instruments (2 of 18)")
    ]
    rows.append(
        Published("reconstruction", "mood oracle (1 of 6), at most", "top-n class agreement", 0.78)
    )
    return rows


def _musical_perception() -> list[Published]:
    return [
        Published("decoding", "identification of 60 clips", "identification test", 0.914, 0.019),
        Published("selection", "threshold r > .05", "voxels", 3433.0),
        Published("selection", "notebook: in-sample R2 > .1", "voxels", 833.0, mark="C"),
        Published("human 2AFC", "10 people", "right answers", 0.841),
        Published("mapping", "CLAP to text side, linear", "mean squared error", 0.0011, mark="C"),
        Published("mapping", "CLAP to text side, identity", "mean squared error", 0.0040, mark="C"),
    ]


_SIX = ("PCC", "PSNR", "FD", "FAD", "KL", "CLAP")
_SETS = ("B2S", "B2M", "B2Sp")
_C2F: dict[str, tuple[tuple[float, ...] | None, ...]] = {
    "Ridge": (
        (0.607, 17.506, 105.113, 40.877, 4.027, 0.175),
        (0.637, 19.353, 47.710, 18.247, 0.997, 0.223),
        (0.511, 17.500, 68.146, 24.988, 3.483, 0.112),
    ),
    "MLP": (
        (0.566, 17.310, 98.358, 38.045, 4.020, 0.164),
        (0.591, 18.886, 48.980, 19.895, 0.732, 0.200),
        (0.409, 16.389, 75.174, 27.983, 4.153, 0.094),
    ),
    "BiLSTM": (
        (0.580, 17.381, 112.031, 39.895, 3.948, 0.180),
        (0.628, 19.078, 57.030, 22.673, 1.008, 0.209),
        (0.526, 17.688, 92.172, 33.442, 4.187, 0.074),
    ),
    "Transformer": (
        (0.581, 17.676, 104.118, 39.484, 3.764, 0.177),
        (0.646, 19.379, 60.969, 22.195, 1.079, 0.198),
        (0.526, 17.690, 74.048, 27.526, 3.817, 0.041),
    ),
    "Park et al.": ((0.394, 15.406, 88.456, 12.694, 2.251, 0.268), None, None),
    "Fine-LDM": (
        (0.376, 14.624, 49.827, 10.803, 2.895, 0.265),
        (0.419, 15.526, 6.412, 1.273, 0.548, 0.512),
        (0.357, 14.385, 12.706, 4.820, 0.885, 0.420),
    ),
    "C2F-Decoder": (
        (0.595, 17.385, 95.565, 35.775, 3.748, 0.179),
        (0.643, 19.478, 63.039, 26.053, 1.191, 0.195),
        (0.518, 17.495, 96.032, 26.917, 4.278, 0.077),
    ),
    "C2F-LDM": (
        (0.418, 15.103, 44.003, 9.324, 2.697, 0.275),
        (0.454, 15.883, 6.102, 1.504, 0.520, 0.530),
        (0.393, 15.260, 9.726, 4.623, 0.616, 0.471),
    ),
}
_P_GT = {  # probability of the true semantic features -> B2M none, T; B2Sp none, T, A
    "0": (
        (0.442, 15.827, 6.121, 1.606, 0.520, 0.527),
        (0.421, 15.600, 8.283, 2.169, 0.641, 0.460),
        (0.379, 14.898, 11.636, 4.866, 0.758, 0.438),
        (0.331, 14.531, 10.772, 5.265, 0.513, 0.444),
        (0.315, 14.543, 7.160, 4.148, 0.430, 0.481),
    ),
    ".25": (
        (0.454, 15.883, 6.102, 1.504, 0.520, 0.530),
        (0.405, 16.059, 7.358, 2.219, 0.584, 0.470),
        (0.393, 15.260, 9.726, 4.623, 0.616, 0.471),
        (0.340, 14.680, 9.265, 4.712, 0.449, 0.476),
        (0.300, 14.434, 7.722, 4.383, 0.416, 0.491),
    ),
    ".5": (
        (0.422, 15.466, 6.587, 1.341, 0.536, 0.513),
        (0.393, 15.827, 10.304, 2.624, 0.559, 0.465),
        (0.374, 15.299, 7.957, 4.013, 0.493, 0.502),
        (0.350, 14.912, 6.698, 5.102, 0.348, 0.487),
        (0.303, 14.401, 7.129, 3.930, 0.398, 0.486),
    ),
}
_PROMPTS = ("B2M no prompt", "B2M text", "B2Sp no prompt", "B2Sp text", "B2Sp audio")


def _c2f_ldm() -> list[Published]:
    rows = [
        Published(f"main table, {data}", method, metric, value)
        for k, data in enumerate(_SETS)
        for method, of_sets in _C2F.items()
        if (values := of_sets[k]) is not None
        for metric, value in zip(_SIX, values, strict=True)
    ]
    rows += [
        Published(f"P_gt table, {prompt}", f"P_gt {p}", metric, value)
        for k, prompt in enumerate(_PROMPTS)
        for p, of_prompts in _P_GT.items()
        for metric, value in zip(_SIX, of_prompts[k], strict=True)
    ]
    for data, what, accuracies in (
        ("B2M", "genre", (0.33, 0.518, 0.257)),
        ("B2Sp", "speaker", (0.95, 0.961, 0.528)),
    ):
        names = ("true acoustic", "true semantic", "decoded semantic")
        for name, value in zip(names, accuracies, strict=True):
            error = 0.008 if (data, name) == ("B2M", "decoded semantic") else None
            rows.append(Published(f"SVM, {data}", name, f"{what} accuracy", value, error))
    for data, value in zip(_SETS, (0.938, 0.967, 0.967), strict=True):
        rows.append(Published("AudioMAE mel to vocoder mel", data, "PCC", value))
    for method, value in zip(_SETS, (3.23, 3.33, 2.75), strict=True):
        rows.append(Published("human rating (1 to 7)", method, "mean", value))
    return rows


def _synthetic_fmri() -> list[Published]:
    rows = [
        Published("reranking", f"candidate {k}", "score", value)
        for k, value in enumerate((0.889, 0.705, 0.680, 0.613), start=1)
    ]
    rows += [
        Published("adapter A", "60 frames", "components", 59.0),
        Published("adapter B", "MLP", "parameters, millions", 78.4, mark="M"),
    ]
    groups: dict[str, tuple[tuple[str, str, float], ...]] = {
        "true fMRI": (
            ("image", "PixCorr", 0.353),
            ("image", "SSIM", 0.233),
            ("image", "CLIP", 0.749),
            ("text", "BLEU-1", 0.373),
            ("text", "METEOR", 0.329),
            ("image", "FID", 243.7),
        ),
        "image to image": tuple(
            (name, metric, value)
            for name, values in (
                ("ridge 2k", (0.173, 0.223, 0.737)),
                ("MLP 2k", (0.084, 0.205, 0.690)),
                ("ridge 500", (0.033, 0.114, 0.593)),
                ("MLP 500", (0.051, 0.096, 0.577)),
            )
            for metric, value in zip(("PixCorr", "SSIM", "CLIP"), values, strict=True)
        ),
        "image to text": (
            ("ridge 2k", "BLEU-1", 0.297),
            ("ridge 2k", "BLEU-4", 0.166),
            ("ridge 2k", "METEOR", 0.199),
        ),
        "text to image": (("trained", "CLIP", 0.534), ("untrained adapter", "CLIP", 0.584)),
        "text to text": (("trained", "BLEU-1", 0.255), ("trained", "METEOR", 0.161)),
        "synthetic and real cortex": (
            ("Yeo-7 visual", "correlation", -0.013),
            ("Yeo-7 visual", "ceiling", 0.237),
        ),
    }
    rows += [
        Published(table, name, metric, value)
        for table, values in groups.items()
        for name, metric, value in values
    ]
    return rows


def _eeg_to_mel() -> list[Published]:
    accuracy = "song classifier accuracy"
    rows = []
    for name, right, cosine in (
        ("periodogram + mel-dB", 0.8286, 0.80),
        ("periodogram + mel", 0.6279, 0.43),
        ("Welch + mel-dB", 0.7384, 0.79),
        ("Welch + mel", 0.5757, 0.44),
    ):
        rows.append(Published("random chunks", name, accuracy, right))
        rows.append(Published("random chunks", name, "cosine", cosine))
    rows += [
        Published("random chunks", "EEG2Mel", accuracy, 0.8080),
        Published("random chunks", "RCNN", "cosine", 0.7392),
        Published("random chunks", "encoder-decoder", "cosine", 0.7302),
        Published("song classifier", "EEG to song", "accuracy", 0.8838, mark="C"),
        Published("song classifier", "EEG to song", "kappa", 0.871, mark="C"),
        Published("song classifier", "EEG to song", "AUC", 0.992, mark="C"),
    ]
    return rows


_TABLES = {
    "brain2music": _brain2music,
    "musical-perception": _musical_perception,
    "c2f-ldm": _c2f_ldm,
    "synthetic-fmri": _synthetic_fmri,
    "eeg-to-mel": _eeg_to_mel,
}


def published(paper: str) -> tuple[Published, ...]:
    """Return all numbers of a paper, in the order of its tables."""
    return tuple(_TABLES[paper]())


def find(paper: str, table: str, row: str, metric: str) -> Published:
    """Return one published number.

    Raises
    ------
    KeyError
        If there is none of that name.
    """
    for item in published(paper):
        if (item.table, item.row, item.metric) == (table, row, metric):
            return item
    raise KeyError(f"{paper}: no {metric!r} of {row!r} in the table {table!r}.")
