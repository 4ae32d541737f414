"""The two kinds of image. An integer modality is the position in MODALITIES."""

VISIBLE, INFRARED = "visible", "infrared"
MODALITIES = (VISIBLE, INFRARED)
