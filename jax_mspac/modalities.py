"""The two kinds of image. An integer modality is the position in MODALITIES."""

VISIBLE, INFRARED = "visible", "infrared"
MODALITIES = (VISIBLE, INFRARED)

# The luma weights of ITU-R BT.601: how much of R, G and B a gray image has.
LUMA = (0.299, 0.587, 0.114)
