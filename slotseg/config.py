"""Every option that SlotSeg adds to Detectron2's configuration, with its unit and meaning."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.projects.panoptic_deeplab import add_panoptic_deeplab_config

from slotseg.errors import ConfigError


def add_slotseg_config(cfg: CfgNode) -> None:
    """Add SlotSeg's keys to ``cfg`` in place; Detectron2's own keys keep their meaning.

    Three of Detectron2's defaults change, because slot models are trained from scratch on RGB:
    ``INPUT.FORMAT`` is RGB, pixels are normalised to [-1, 1], and the model is ``SlotSeg``.
    """
    # The keys of Detectron2's DeepLab projects, for StockPanopticDeepLab.
    add_panoptic_deeplab_config(cfg)
    _add_input(cfg)
    _add_few_labels(cfg)
    _add_pseudo_labels(cfg)
    _add_mixing(cfg)
    _add_model(cfg)
    _add_feature_decoder(cfg)
    _add_diffusion_decoder(cfg)
    _add_autoencoder(cfg)
    _add_huggingface(cfg)
    _add_losses(cfg)
    _add_solver(cfg)
    _add_monitoring(cfg)
    _add_unsupervised(cfg)
    _add_curriculum(cfg)
    _add_mean_teacher(cfg)


def get_cfg(config_file: str | None = None, overrides: list[Any] | tuple[Any, ...] = ()) -> CfgNode:
    """Detectron2's defaults with SlotSeg's keys, one YAML file and ``KEY VALUE`` overrides.

    Raises:
        ConfigError: a missing file, a key that does not exist or a value of the wrong type; the
            message names the file or the command line, and the nearest existing keys.
    """
    cfg = get_detectron2_cfg()
    add_slotseg_config(cfg)
    if config_file:
        with _explain_config_errors(cfg, source=config_file):
            # YAML tags that build Python objects would execute code.
            cfg.merge_from_file(config_file, allow_unsafe=False)
    if overrides:
        with _explain_config_errors(cfg, source="the command line"):
            cfg.merge_from_list(list(overrides))
    return cfg


def has_slots(meta_architecture: str) -> bool:
    """Whether the model of this name has ``MODEL.SLOTS``: :class:`SlotSeg` or what is built on it.

    A registered class says so by an attribute ``has_slots``; an unknown name has none.
    """
    if meta_architecture not in META_ARCH_REGISTRY:
        return False
    return getattr(META_ARCH_REGISTRY.get(meta_architecture), "has_slots", False)


def num_slots(cfg: CfgNode) -> int:
    """How many slots are decoded: ``MODEL.SLOTS.NUM_SLOTS``, or of two levels the lower one's."""
    slots = cfg.MODEL.SLOTS
    nested = slots.GROUPING.NAME == "NestedSlotAttention"
    return slots.NUM_SLOTS * (slots.GROUPING.SUB_SLOTS if nested else 1)


def slots_have_places(cfg: CfgNode) -> bool:
    """Whether some slots start at a place in the image, of which there is a dense guess."""
    return cfg.MODEL.SLOTS.INITIALIZER.NAME == "PeakInitializer"


def _add_input(cfg: CfgNode) -> None:
    cfg.INPUT.FORMAT = "RGB"
    # Window cut out of every image before resizing: (top, left, bottom, right) in pixels, bottom
    # and right exclusive. Empty: the whole image. CLEVR's usual protocol on 240x320 images is
    # (29, 64, 221, 256); the generated scenes are rendered inside that window already.
    # For scene folders only; panoptic sets are scored at the full size of their files.
    cfg.INPUT.CROP_WINDOW = ()
    # How images reach their size (masks by nearest neighbour). Scene folders know only "fixed".
    # "fixed": to IMAGE_SIZE, whatever their shape.
    # "shortest_edge": shape kept, Detectron2's MIN_SIZE_TRAIN, MIN_SIZE_TRAIN_SAMPLING,
    #   MAX_SIZE_TRAIN, MIN_SIZE_TEST and MAX_SIZE_TEST.
    # "scale_jitter": shape kept, to fit into IMAGE_SIZE times a random factor; then a random
    #   window of IMAGE_SIZE, padded at the bottom and right (in masks with void) where the image is
    #   smaller. In evaluation: to fit into IMAGE_SIZE, without padding.
    # Detectron2's INPUT.CROP is a random window in training: before resizing for "fixed", after
    # it for "shortest_edge".
    cfg.INPUT.RESIZE = "fixed"
    # Height and width in pixels.
    cfg.INPUT.IMAGE_SIZE = (128, 128)
    # Smallest and largest factor of "scale_jitter".
    cfg.INPUT.SCALE_JITTER = (0.5, 2.0)
    # Training only: "horizontal" or "none".
    cfg.INPUT.RANDOM_FLIP = "none"
    # Training only: how far colours change at random; 0 is not at all. The first three are the
    # largest distance of a factor from 1 (at most 1), HUE is the largest turn of the colour circle
    # to either side (at most 0.5, half a turn).
    cfg.INPUT.COLOR_JITTER = CfgNode()
    cfg.INPUT.COLOR_JITTER.BRIGHTNESS = 0.0
    cfg.INPUT.COLOR_JITTER.CONTRAST = 0.0
    cfg.INPUT.COLOR_JITTER.SATURATION = 0.0
    cfg.INPUT.COLOR_JITTER.HUE = 0.0
    # Strong colours: for the student's views of unlabelled images (SEMI.IMS_PER_BATCH) and, with
    # LABELED, for the labelled images too, in place of COLOR_JITTER.
    strong = cfg.INPUT.STRONG = CfgNode()
    strong.LABELED = False
    # How far colours change, as COLOR_JITTER has it, and how probably they change at all.
    strong.BRIGHTNESS = 0.5
    strong.CONTRAST = 0.5
    strong.SATURATION = 0.5
    strong.HUE = 0.25
    strong.COLOR_PROBABILITY = 0.8
    # Probability that an image loses its colours.
    strong.GRAYSCALE = 0.2
    # Probability of a Gaussian blur, and its smallest and largest deviation in pixels of the view.
    strong.BLUR = 0.5
    strong.BLUR_SIGMA = (0.1, 2.0)
    # Images with more objects than this are left out, in training and in evaluation; 0 keeps all.
    # CLEVR6 is 6. Objects are counted, neither the background nor stuff or crowds.
    cfg.DATASETS.MAX_OBJECTS = 0
    # Only the first so many images of every set, after MAX_OBJECTS, in training and in evaluation;
    # 0: all. For checks such as configs/overfit.
    cfg.DATASETS.MAX_IMAGES = 0

    # False: training images come without their masks and classes, as if the set had none.
    cfg.DATASETS.TRAIN_LABELS = True


def _add_mixing(cfg: CfgNode) -> None:
    # Training: images made of several images of the batch, with their segments
    # (slotseg/data/mixing). Each process mixes what it has itself: one image has no partner and
    # stays as it is. All images of a batch must have one size. Off while both PROBABILITYs are 0.
    mixing = cfg.MIXING = CfgNode()
    # Which part of a batch: images with their truth, and images with a teacher's pseudo labels.
    # The two are not mixed with each other.
    mixing.LABELED = True
    mixing.PSEUDO = True
    # What is left of a segment becomes void where it is of fewer pixels than MIN_AREA and less than
    # MIN_SHARE (0 to 1) of what it was: a bumper says little about a car.
    mixing.MIN_AREA = 32
    mixing.MIN_SHARE = 0.2

    # Mosaic (Bochkovskiy et al. 2020): four images meet at a random point. Each is shrunk, and of
    # it a random window is seen.
    mosaic = mixing.MOSAIC = CfgNode()
    # Share of the images that become one.
    mosaic.PROBABILITY = 0.0
    # Between which shares of height and width the point lies.
    mosaic.CENTER = (0.25, 0.75)
    # Smallest and largest factor on height and width (at most 1); more where its quarter would not
    # be filled.
    mosaic.SCALE = (0.5, 1.0)

    # CutMix (Yun et al. 2019), after the mosaics: a box of another image at the same place. The box
    # has the share 1 - lambda of the image, lambda from Beta(ALPHA, ALPHA).
    cutmix = mixing.CUTMIX = CfgNode()
    cutmix.PROBABILITY = 0.0
    cutmix.ALPHA = 1.0

    for operation in (mosaic, cutmix):
        # First iteration with it, and iterations in which its share then grows from 0 to
        # PROBABILITY (0: at once).
        operation.START = 0
        operation.RAMP = 0
        # First iteration without it; 0: none; negative: so many before SOLVER.MAX_ITER.
        operation.END = 0


def _add_few_labels(cfg: CfgNode) -> None:
    # Which images of DATASETS.TRAIN are labelled; at most one of the three may be given. The labels
    # of the others are not read (only counted, to warn of classes that are left without any), and
    # they become unlabelled images. MAX_OBJECTS and MAX_IMAGES choose first. Epochs, in which
    # periods are counted, are of all images, so that periods do not depend on how many have labels.
    # Share of the images, above 0 and at most 1, rounded to whole images and never to none.
    cfg.DATASETS.LABELED_FRACTION = 1.0
    # Number of images; 0: not given.
    cfg.DATASETS.LABELED_IMAGES = 0
    # A text file with one image a line, by image_id, file name or file name without its ending (or
    # the end of its path, where that is not unique); # starts a comment. Empty: not given.
    cfg.DATASETS.LABELED_LIST = ""
    # Which images a share or a number takes (slotseg/data/splits.py): for one seed smaller ones are
    # part of larger ones.
    cfg.DATASETS.SPLIT_SEED = 0
    # More unlabelled images: registered sets, whose annotations are not used, and folders, which
    # are searched with their subfolders. Unreadable files in folders are skipped, counted and
    # listed in OUTPUT_DIR/unreadable_images.txt.
    cfg.DATASETS.UNLABELED = ()
    cfg.DATASETS.UNLABELED_FOLDERS = ()

    semi = cfg.SEMI = CfgNode()
    # Unlabelled images a step over all processes, besides SOLVER.IMS_PER_BATCH labelled ones; 0:
    # none. A multiple of the number of processes.
    semi.IMS_PER_BATCH = 0
    # The labelled images are among the unlabelled ones too, without their labels.
    semi.INCLUDE_LABELED = False
    # The teacher sees an image as the training chain cuts, scales and mirrors it, without changed
    # colours. The student sees a window of that, of the same shape, whose sides are a random factor
    # from this range, scaled to the same size; above 1 there is padding around. It is mirrored
    # again where INPUT.RANDOM_FLIP allows it, and gets the colours of INPUT.STRONG.
    semi.VIEW_SCALE = (0.5, 1.0)


def _add_pseudo_labels(cfg: CfgNode) -> None:
    # What the student learns from its teacher (MEAN_TEACHER): the losses on pseudo-labelled images
    # are multiplied by WEIGHT, 0 before iteration START, and rise to it within RAMP iterations as
    # exp(-5 (1 - t)^2), t going from 0 to 1 (Tarvainen and Valpola 2017). RAMP 0: at once.
    semi = cfg.SEMI
    semi.WEIGHT = 1.0
    semi.START = 1000
    semi.RAMP = 1000

    # Which segments and pixels of the teacher's prediction the student is asked for; the others
    # become void. 0, "none" and 1 switch a filter off.
    pseudo = cfg.PSEUDO_LABELS = CfgNode()
    # Least confidence, 0 to 1, of a segment: the mean over its pixels of class probability times
    # mask. THINGS also holds for segments of models without classes, whose confidence is the mean
    # of the mask.
    pseudo.MIN_CONFIDENCE_THINGS = 0.5
    pseudo.MIN_CONFIDENCE_STUFF = 0.5
    # How unsure the teacher is of a pixel, from 0 to 1. "entropy": of its classes and "no object",
    # over the logarithm of their number; "view_variance": variance between its predictions for the
    # image and for its mirror image, summed over classes, which costs a second pass; "none".
    # Without classes, of which slot has the pixel.
    pseudo.UNCERTAINTY = "entropy"
    # Pixels above this become void. Which value is good depends on the model and is measured by
    # benchmarks/pseudo_labels.py: on generated streets, of the entropies of a small model 0.1 drops
    # half of all pixels, 98 % of the others are right, and all things; 0.3 keeps 81 % (93 % right)
    # and 69 % of things (88 %). Variances are smaller: 0.01 drops as much as an entropy of 0.4.
    pseudo.MAX_UNCERTAINTY = 0.1
    # Segments that keep fewer pixels than this in the teacher's view, or a smaller share of their
    # own pixels, become void.
    pseudo.MIN_AREA = 16
    pseudo.MIN_KEPT_SHARE = 0.3
    # Pseudo-labelled segments count in the losses as far as the teacher is confident; False: as
    # true ones. For SlotSeg; other models have losses of their own, which know no such weights.
    pseudo.WEIGHT_BY_CONFIDENCE = True


def _add_model(cfg: CfgNode) -> None:
    cfg.MODEL.META_ARCHITECTURE = "SlotSeg"
    cfg.MODEL.PIXEL_MEAN = [127.5, 127.5, 127.5]
    cfg.MODEL.PIXEL_STD = [127.5, 127.5, 127.5]
    # Convolutions in channels_last memory order: faster on CPUs and on tensor cores.
    cfg.MODEL.CHANNELS_LAST = False
    # Load checkpoints that are Python pickles (they can execute code). Only for files you trust.
    cfg.MODEL.TRUST_PICKLE = False
    cfg.MODEL.BACKBONE.NAME = "build_simple_cnn_backbone"

    # The published Slot Attention encoder: a stack of equal convolutions, output "s<stride>".
    cfg.MODEL.SIMPLE_CNN = CfgNode()
    cfg.MODEL.SIMPLE_CNN.CHANNELS = [64, 64, 64, 64]
    cfg.MODEL.SIMPLE_CNN.STRIDES = [1, 1, 1, 1]
    cfg.MODEL.SIMPLE_CNN.KERNEL_SIZE = 5

    # A small U-Net; outputs "s2", "s4", ..., all of them fused top-down.
    cfg.MODEL.UNET = CfgNode()
    # Channels at strides 2, 4, 8, ...; the length sets the depth.
    cfg.MODEL.UNET.CHANNELS = [32, 64, 64, 64]
    # Residual blocks at each stride on the way down.
    cfg.MODEL.UNET.BLOCKS = [1, 1, 1, 1]
    # Channels of one more map "s1" at full resolution, for masks of thin things; 0: none.
    cfg.MODEL.UNET.FULL_CHANNELS = 0
    # "GN" (groups of 8 channels) knows nothing of the other images; "BN" learns streets faster
    # (docs/benchmarks.md); over all processes: "SyncBN" (CUDA), "naiveSyncBN".
    cfg.MODEL.UNET.NORM = "GN"

    # build_trimmed_resnet_fpn_backbone: Detectron2's build_resnet_fpn_backbone (MODEL.RESNETS,
    # MODEL.FPN) with these levels "p<log2 of the stride>" alone: what no loss reaches would cost
    # time and not learn.
    cfg.MODEL.FPN.OUT_FEATURES = ["p2", "p3"]

    _add_vit(cfg)
    _add_masked_autoencoder(cfg)

    slots = cfg.MODEL.SLOTS = CfgNode()
    slots.NUM_SLOTS = 7
    slots.DIM = 64
    # Backbone output whose pixels the slots compete for.
    slots.IN_FEATURE = "s1"
    # Position added to those pixels. "soft": learnt linear map of (y, x, 1-y, 1-x), as published;
    # "fourier": fixed sines and cosines, then a learnt linear map; "none".
    slots.POSITION = "soft"

    slots.INITIALIZER = CfgNode()
    # GaussianInitializer (one learnt mean and deviation shared by all slots, as published),
    # LearnedInitializer (one learnt vector a slot, Xavier), OrthogonalInitializer (one learnt
    # vector a slot, started as rows of an orthogonal matrix), SpectralInitializer (seeds from the
    # parts into which the image's patches fall, padded with learnt vectors) or PeakInitializer
    # (seeds where a small dense map sees things, and learnt vectors; supervised, with a head).
    slots.INITIALIZER.NAME = "GaussianInitializer"

    peaks = slots.PEAKS = CfgNode()
    # The first slots of the PeakInitializer, which start at the peaks of its map of things; the
    # others up to NUM_SLOTS are learnt vectors, and are for stuff.
    peaks.NUM = 40
    # Backbone output in whose pixels they are looked for; empty: MODEL.SLOTS.IN_FEATURE. A finer
    # one tells small neighbours apart.
    peaks.IN_FEATURE = ""
    # Channels of the convolution on it that makes the map, a multiple of 8.
    peaks.CHANNELS = 64

    spectral = slots.SPECTRAL = CfgNode()
    # Backbone output whose pixels are the patches, for example "keys"; empty: IN_FEATURE.
    spectral.FEATURE = ""
    # Larger maps are averaged down to at most this many pixels.
    spectral.MAX_TOKENS = 1024
    # Subtract the image's mean from its features first: for features that all lie on one side of
    # zero, such as colours.
    spectral.CENTER = False
    # How much two patches belong together: "cosine" similarity of their features, negative values
    # clipped; "threshold": 1 where it is above THRESHOLD; "power": the clipped one to POWER, which
    # leaves near neighbours only: the eigengap then lies behind objects and parts of them (on the
    # ViT of the CLEVR ladder 10 to 30 an image of 3 to 10 objects) rather than behind halves.
    spectral.AFFINITY = "power"
    spectral.THRESHOLD = 0.2
    spectral.POWER = 10.0
    # Weight of a second affinity added to it: patches near in colour and place, each joined to
    # its COLOR_NEIGHBORS nearest; 0: off.
    spectral.COLOR_WEIGHT = 0.0
    spectral.COLOR_NEIGHBORS = 10
    # How many seeds an image gets, up to NUM_SLOTS. "eigengap": as many as there are eigenvalues
    # in front of the largest gap, if it is at least MIN_GAP (with "cosine" often 2, fore- and
    # background). "eigenvalues": as many as there are eigenvalues (1 is the largest possible)
    # from MIN_EIGENVALUE on. "all": NUM_SLOTS, where so many eigenvectors are more than noise.
    spectral.COUNT = "eigengap"
    spectral.MIN_GAP = 0.01
    spectral.MIN_EIGENVALUE = 0.2
    # Fewer parts than this are none (at least 2): all slots are learnt vectors then.
    spectral.MIN_SEEDS = 2
    # Temperature of the soft masks under which seeds are averaged; 0: hard masks.
    spectral.SOFTNESS = 0.1
    # Deviation, at the start, of the learnt noise on the seeds in training, whose own is 1; 0: off.
    spectral.NOISE = 0.1

    slots.GROUPING = CfgNode()
    # SlotAttention (published) or NestedSlotAttention (two levels: each of NUM_SLOTS parents has
    # SUB_SLOTS sub-slots, which are the slots that are decoded).
    slots.GROUPING.NAME = "SlotAttention"
    # Sub-slots of every parent; NestedSlotAttention only.
    slots.GROUPING.SUB_SLOTS = 4
    slots.GROUPING.ITERATIONS = 3
    slots.GROUPING.MLP_DIM = 128
    # Added to the attention before it is normalised over pixels.
    slots.GROUPING.EPSILON = 1e-8
    # BO-QSA (Jia et al. 2023): gradients only through the last iteration, straight through to the
    # initial slots. For learnt initialisers.
    slots.GROUPING.BO_QSA = False
    # Multi-head self-attention between the slots after every iteration; 0 heads: off (published).
    slots.GROUPING.SELF_ATTENTION_HEADS = 0
    # Lets pixels tell each other what they are before slots compete for them: "mamba", selective
    # scans along rows and columns, both ways; "none" (published).
    slots.GROUPING.TOKEN_MIXER = "none"
    # How a slot takes in what it gathered: "gru" (published), or "mamba", a selective scan over
    # the iterations of every slot.
    slots.GROUPING.UPDATE = "gru"

    # Both kinds of "mamba" above.
    slots.MAMBA = CfgNode()
    # Inner channels as a multiple of DIM.
    slots.MAMBA.EXPAND = 1
    # States of every channel; time and memory of the scan grow with it.
    slots.MAMBA.STATE_DIM = 8

    # The decoders, in order. The first gives the masks that are predicted and scored.
    cfg.MODEL.DECODERS = ["SpatialBroadcastDecoder"]
    # What its logits mean. "softmax": the slots share out every pixel; "sigmoid": each mask is
    # independent of the others (Mask2Former), for MaskProductDecoder and LOSSES.MASKS.PIXEL_LOSS
    # "bce"; slots may then overlap, and thresholds decide in inference.
    cfg.MODEL.MASK_ACTIVATION = "softmax"

    broadcast = cfg.MODEL.SPATIAL_BROADCAST = CfgNode()
    # Each slot is repeated on this (height, width) grid ...
    broadcast.RESOLUTION = (8, 8)
    # ... and upsampled by one transposed convolution a channel entry, with these strides.
    broadcast.CHANNELS = [64, 64, 64, 64, 64]
    broadcast.STRIDES = [2, 2, 2, 2, 1]
    broadcast.KERNEL_SIZE = 5

    product = cfg.MODEL.MASK_PRODUCT = CfgNode()
    # Backbone output whose pixels are multiplied with the slots; masks come at its stride.
    product.IN_FEATURE = "s2"
    # Length of the product.
    product.DIM = 32
    # Position added to those pixels, as MODEL.SLOTS.POSITION: lets a slot ask for a place.
    product.POSITION = "fourier"
    # Adds a quadratic form in (x, y) per slot to its mask logits: a soft window where it looks.
    product.QUADRATIC = True
    # In training take only every so many-th pixel each way, from a random start: fine masks then
    # cost and remember no more than coarse ones. 1: all. Not with LOSSES.MASKS.POINTS,
    # nor with losses that compare the masks of two views (LOSSES.CONTRASTIVE, CONSISTENCY).
    product.TRAIN_STEP = 1

    cfg.MODEL.HEAD = CfgNode()
    # What slots mean: "PanopticHead" gives each a class of the first set of DATASETS.TRAIN, or
    # none; empty: every slot is a segment, without a class.
    cfg.MODEL.HEAD.NAME = ""
    # Inference: what each image's dict holds besides the slots: any of "panoptic_seg" (which
    # evaluation and pictures need), "sem_seg" (probabilities of the classes, [C, height, width]
    # float32: 160 MB for 19 classes at 1024x2048) and "instances" (Detectron2's Instances of the
    # thing classes, at most TEST.DETECTIONS_PER_IMAGE, one bool mask of that size each).
    cfg.MODEL.HEAD.OUTPUTS = ["panoptic_seg"]
    # In "panoptic_seg" slots whose best thing class is less probable than this are no thing (with
    # MODEL.MASK_ACTIVATION "sigmoid" they are nothing, stuff neither; Mask2Former's is 0.8) ...
    cfg.MODEL.HEAD.OBJECT_THRESHOLD = 0.5
    # ... and segments of fewer pixels than this are left out, at the size of the result.
    cfg.MODEL.HEAD.MIN_AREA = 1
    # "sigmoid" only: a mask holds the pixels where it is at least this, and a slot that wins less
    # than this share of its mask is left out.
    cfg.MODEL.HEAD.MASK_THRESHOLD = 0.5
    cfg.MODEL.HEAD.OVERLAP_THRESHOLD = 0.8
    # Leave the class layer of MODEL.WEIGHTS alone and start a new one: for weights trained on other
    # classes. It applies where a training starts, neither on --resume nor in inference.
    cfg.MODEL.HEAD.REINIT_CLASSES = False


def _add_vit(cfg: CfgNode) -> None:
    # A vision transformer of timm: build_dinov2_backbone gives the map "s<STRIDE>" of its last
    # tokens.
    vit = cfg.MODEL.VIT = CfgNode()
    # timm's name: vit_{small,base,large,giant}_patch14[_reg4]_dinov2.lvd142m,
    # vit_*_patch16_dinov3.*, vit_tiny_patch16_224, ... The tag behind the dot says which weights of
    # the hub are meant.
    vit.NAME = "vit_small_patch14_dinov2.lvd142m"
    # Further keyword arguments of timm.create_model, such as img_size (for which position
    # embeddings are stored; other sizes are resampled), patch_size, embed_dim, depth, num_heads,
    # drop_path_rate.
    vit.ARGS = CfgNode(new_allowed=True)
    # "": random weights. "hub": timm's for NAME, fetched once. Else a file: timm's
    # model.safetensors, the original .pth of DINOv2 or DINOv3, or a checkpoint of SlotSeg with a
    # ViT in it, such as a masked autoencoder's. They are loaded when the model is built; a
    # checkpoint in MODEL.WEIGHTS, loaded later, holds them too.
    vit.WEIGHTS = ""
    # What these weights want in 0..255 RGB; the model's images come as MODEL.PIXEL_MEAN says and
    # are converted. These are ImageNet's statistics, which DINOv2 and DINOv3 were trained with.
    vit.PIXEL_MEAN = [123.675, 116.28, 103.53]
    vit.PIXEL_STD = [58.395, 57.12, 57.375]
    # Pixels of the image a token; 0: the side of a patch. The image is resized so that whole
    # patches cover exactly the image: with patches of 14 and a stride of 16, 512x1024 is seen as
    # 448x896.
    vit.STRIDE = 0
    # Also give the attention keys of the last block, as the map "keys".
    vit.KEYS = False
    # The last blocks that are trained, with the final norm; 0: the ViT is frozen; -1: all of it.
    vit.UNFROZEN_BLOCKS = 0
    # Rank of a trained update of the attention matrices that are frozen (LoRA); 0: none.
    vit.LORA_RANK = 0
    # Factor on the learning rate from one block to the one before it (BEiT, ViTDet: 0.65 to 0.9).
    vit.LAYER_DECAY = 1.0
    # Folder made by tools/cache_features.py with this config: maps of the frozen ViT are read from
    # there and the ViT does not run, neither in training nor in evaluation. Empty: it runs.
    vit.CACHE = ""

    # build_dinov2_fpn_backbone: the simple feature pyramid of ViTDet on that map.
    pyramid = cfg.MODEL.VIT_FPN = CfgNode()
    # Strides of its maps "s<stride>"; powers of two times MODEL.VIT.STRIDE, up or down. Name only
    # those that other parts take: each is built and run, and what no loss reaches does not learn.
    # The ViT's own map is there too, as "plain".
    pyramid.STRIDES = [4, 8, 16, 32]
    pyramid.CHANNELS = 256
    # "LN" (over the channels of a pixel, as published) or "GN" (32 groups).
    pyramid.NORM = "LN"


def _add_feature_decoder(cfg: CfgNode) -> None:
    # FeatureMLPDecoder: slots and positions to a backbone map and masks (DINOSAUR).
    features = cfg.MODEL.FEATURE_MLP = CfgNode()
    # Backbone map that the slots have to explain; masks come at its stride. It has to be a frozen
    # one: a map that is trained can make itself easy to predict by becoming constant.
    features.TARGET = "s16"
    # Width and number of the hidden layers.
    features.HIDDEN = 2048
    features.LAYERS = 3
    # How a pixel's position is told, as MODEL.SLOTS.POSITION: "soft" or "fourier".
    features.POSITION = "fourier"


def _add_diffusion_decoder(cfg: CfgNode) -> None:
    # LatentDiffusionDecoder: a denoising UNet over the latents of a frozen autoencoder, with the
    # slots as its cross-attention tokens. The defaults are SlotDiffusion's.
    diffusion = cfg.MODEL.DIFFUSION = CfgNode()
    # The autoencoder: a checkpoint of a LatentAutoencoder (configs/clevr/pretrain/autoencoder.yaml
    # trains one), or a folder that diffusers' save_pretrained made of an AutoencoderKL, a VQModel
    # or an AutoencoderTiny, or a pipeline's folder that holds one in vae/ or vqvae/. It is frozen,
    # and has to be there in inference too: it says what the network is.
    diffusion.AUTOENCODER = ""
    # Height and width in pixels at which images are encoded and drawn. Empty: those of the input,
    # rounded up to what the autoencoder divides.
    diffusion.IMAGE_SIZE = ()
    # Channels of the UNet at the latents' resolution, a half, a quarter, ... of it, ...
    diffusion.CHANNELS = [128, 256, 384, 512]
    # ... residual blocks at each on the way down (one more on the way up), ...
    diffusion.BLOCKS = 2
    # ... and whether they are followed by attention. The coarsest always has it, in the middle.
    diffusion.ATTENTION = [False, True, True, True]
    # Channels of an attention head.
    diffusion.HEAD_DIM = 32
    # Groups of the group normalisation; CHANNELS must be multiples of it.
    diffusion.NORM_GROUPS = 32
    # Steps of the noise schedule and its variances at both ends. "scaled_linear": the square root
    # of the variance is linear, which the code of latent diffusion models calls linear; "linear":
    # the variance itself; "squaredcos_cap_v2": a cosine, without the two ends.
    diffusion.TIMESTEPS = 1000
    diffusion.BETA_SCHEDULE = "scaled_linear"
    diffusion.BETA_START = 0.0015
    diffusion.BETA_END = 0.0195
    # What the UNet predicts: "epsilon" (the noise) or "v_prediction" (Salimans and Ho 2022).
    diffusion.PREDICTION = "epsilon"
    # How pictures are drawn: "ddim" (Song et al. 2021, without added noise) or "dpm-solver"
    # (DPM-Solver++, Lu et al. 2022), and in how many steps.
    diffusion.SAMPLER = "ddim"
    diffusion.SAMPLER_STEPS = 20


def _add_autoencoder(cfg: CfgNode) -> None:
    # The meta-architecture LatentAutoencoder, which makes the latents of the diffusion decoder. It
    # needs no labels. Images are mapped to [-1, 1] in RGB whatever MODEL.PIXEL_MEAN is.
    autoencoder = cfg.MODEL.AUTOENCODER = CfgNode()
    # A class of diffusers: "kl" (AutoencoderKL), "vq" (VQModel) or "tiny" (AutoencoderTiny, the
    # cheapest, without a penalty on its latents).
    autoencoder.KIND = "kl"
    # Blocks of PATCH x PATCH pixels are folded into channels before the first layer, which saves
    # the layers at full size, the dearest ones; 1: off.
    autoencoder.PATCH = 1
    # Channels at strides PATCH, 2 * PATCH, 4 * PATCH, ...; the last stride is that of the latents.
    # "tiny" wants all of them equal.
    autoencoder.CHANNELS = [64, 128, 256]
    # Residual blocks at each stride.
    autoencoder.BLOCKS = 2
    # Channels of the latents.
    autoencoder.LATENT_CHANNELS = 4
    # Self-attention at the latents' stride ("kl" and "vq"); its cost grows with the square of
    # their number of pixels.
    autoencoder.ATTENTION = True
    # Groups of the group normalisation ("kl" and "vq"); CHANNELS must be multiples of it.
    autoencoder.NORM_GROUPS = 32
    # Vectors in the codebook ("vq").
    autoencoder.CODEBOOK = 4096
    # Weight of the latents' KL divergence from a normal distribution, mean over their values
    # ("kl"), beside the mean squared error of the image in [-1, 1].
    autoencoder.KL_WEIGHT = 1e-4
    # Weight of the codebook loss ("vq").
    autoencoder.CODEBOOK_WEIGHT = 1.0


def _add_masked_autoencoder(cfg: CfgNode) -> None:
    # MaskedAutoencoder: trains the ViT of MODEL.VIT without labels; MODEL.VIT.UNFROZEN_BLOCKS: -1.
    mae = cfg.MODEL.MAE = CfgNode()
    # Share of the patches that the ViT does not see and the decoder paints.
    mae.MASK_RATIO = 0.75
    # The decoder, which is thrown away afterwards: blocks of "convolution", with which short
    # trainings learn much more, or of "attention", as He et al.; width, a multiple of 32; depth.
    mae.DECODER = "convolution"
    mae.DECODER_DIM = 96
    mae.DECODER_DEPTH = 3
    # Paint every patch relative to its own mean colour and deviation, or its pixels.
    mae.NORMALIZE_PATCHES = True
    # For such patches: the deviation, in the ViT's units (0.2 is about 12 of 255), below which one
    # counts as flat, and its noise is hardly painted. He et al.: 0.001.
    mae.FLAT_DEVIATION = 0.2
    # For such patches: weight of the loss on their mean colours, which they otherwise say nothing
    # about. He et al.: 0.
    mae.COLOR_WEIGHT = 1.0


def _add_huggingface(cfg: CfgNode) -> None:
    # The models of the `transformers` package: HFMask2Former and HFEoMT. MODEL.CHANNELS_LAST does
    # not apply to them: they hardly convolve.
    hf = cfg.MODEL.HUGGINGFACE = CfgNode()
    # A folder made by save_pretrained, or a name on the Hugging Face hub; its own description of
    # the network is used. The weights of the hub want ImageNet's statistics:
    # PIXEL_MEAN [123.675, 116.28, 103.53], PIXEL_STD [58.395, 57.12, 57.375] in RGB.
    # Empty: a new network, as CONFIG describes it.
    hf.PRETRAINED = ""
    # Options of the package's Mask2FormerConfig or EomtConfig, except for the classes, which come
    # from the data set; backbone_config is a node of its own with a model_type.
    hf.CONFIG = CfgNode(new_allowed=True)
    # For such a new Mask2Former: a folder or hub name of an image classifier with the backbone that
    # CONFIG describes, whose weights to start from. Empty: new weights.
    hf.BACKBONE = ""
    # A query needs a class of a probability above this, and has to win at least this share of its
    # mask, to become a segment.
    hf.OBJECT_THRESHOLD = 0.8
    hf.OVERLAP_THRESHOLD = 0.8
    # EoMT: switch the masks in the attention off over the training, one block after the other, so
    # that inference is faster without them. False leaves them on.
    hf.MASK_ANNEALING = True


def _add_losses(cfg: CfgNode) -> None:
    losses = cfg.LOSSES = CfgNode()
    # Weight 0 switches a loss off; one that trains masks or a decoder must be on.
    losses.RECONSTRUCTION = CfgNode()
    # Mean squared error between the image in [-1, 1] and its reconstruction. No labels.
    losses.RECONSTRUCTION.WEIGHT = 1.0

    # Mean squared error between MODEL.FEATURE_MLP.TARGET and the FeatureMLPDecoder's idea of it.
    losses.FEATURES = CfgNode()
    losses.FEATURES.WEIGHT = 0.0

    # Mean squared error between the noise in the latents and the LatentDiffusionDecoder's idea of
    # it (or of MODEL.DIFFUSION.PREDICTION).
    losses.DIFFUSION = CfgNode()
    losses.DIFFUSION.WEIGHT = 0.0

    # Supervised masks: slots are matched to true segments (background included) by Hungarian
    # assignment on the same costs.
    losses.MASKS = CfgNode()
    losses.MASKS.WEIGHT = 0.0
    # "ce": cross entropy over slots; "bce": binary cross entropy of every matched slot, the only
    # one for MODEL.MASK_ACTIVATION "sigmoid".
    losses.MASKS.PIXEL_LOSS = "ce"
    losses.MASKS.PIXEL_WEIGHT = 1.0
    losses.MASKS.DICE_WEIGHT = 1.0
    # The same loss on the grouping's own competition (the attention of the last iteration), with a
    # matching of its own, at this weight relative to the decoder's masks; 0: off. Without it the
    # slots may look anywhere as long as the decoder makes masks of what they saw.
    losses.MASKS.ATTENTION_WEIGHT = 0.0
    # The same losses, classes included, on what the slots mean after each earlier iteration of the
    # grouping, matched anew, at this weight each relative to the last one; 0: off.
    losses.MASKS.AUXILIARY_WEIGHT = 0.0
    # Points at which masks and truth (at its full size) are compared, in the matching and in the
    # losses, each image (and, with "sigmoid", each matched slot) having its own; 0: every pixel of
    # the masks, which for small maps costs no more and misses no small segment. Mask2Former: 12544,
    # a fifth of its pixels.
    losses.MASKS.POINTS = 0
    # Of POINTS_OVERSAMPLE * POINTS random candidates the least sure POINTS_IMPORTANCE * POINTS are
    # taken for the losses; the other points are random.
    losses.MASKS.POINTS_OVERSAMPLE = 3.0
    losses.MASKS.POINTS_IMPORTANCE = 0.75
    # The loss on the classes of the matched slots, where MODEL.HEAD.NAME predicts some.
    losses.MASKS.CLASS_WEIGHT = 1.0
    # Weight in it of a slot without a segment, relative to a matched one (DETR's 0.1).
    losses.MASKS.NO_OBJECT_WEIGHT = 0.1
    # Weights in the matching cost.
    losses.MASKS.MATCH_PIXEL_WEIGHT = 0.2
    losses.MASKS.MATCH_DICE_WEIGHT = 1.0
    losses.MASKS.MATCH_CLASS_WEIGHT = 1.0

    # Mean absolute cosine similarity between different slots of an image.
    losses.DIVERSITY = CfgNode()
    losses.DIVERSITY.WEIGHT = 0.01

    _add_peak_losses(losses)
    _add_view_losses(losses)
    _add_uncertainty_loss(losses)

    # How losses are weighed against each other, on top of their WEIGHTs. "fixed": as they are.
    # "uncertainty" (Kendall et al. 2018): each is multiplied by exp(-s) and s/2 is added, s being
    # its learnt log variance, 0 at the start; the weights are in TensorBoard as weights/*. They are
    # learnt from images without segment_confidence alone, and hold for pseudo-labelled ones too.
    # SOLVER.LR_FACTORS ["weighting=10.0"] lets them learn at ten times the rate of the rest.
    losses.WEIGHTING = CfgNode()
    losses.WEIGHTING.NAME = "fixed"
    # Largest absolute s: at 3 weights stay between 0.05 and 20.
    losses.WEIGHTING.MAX_LOG_VARIANCE = 3.0


def _add_view_losses(losses: CfgNode) -> None:
    # Losses that need no labels and compare the image with other views of it. Each view costs a
    # forward and a backward pass over it, with their memory (a frozen ViT runs, MODEL.VIT.CACHE
    # holds no views); losses that want the same one share it.

    # Slots have to find themselves (InfoNCE) among the slots of another view of the image.
    contrastive = losses.CONTRASTIVE = CfgNode()
    contrastive.WEIGHT = 0.0
    # The other view: mirrored left to right, and height and width times a factor.
    contrastive.FLIP = True
    contrastive.SCALE = 1.0
    # Of the softmax over cosines.
    contrastive.TEMPERATURE = 0.1
    # Which slots of the two views are the same: "overlap", one to one by the overlap of their
    # masks; "truth", by the true segment that each is matched to.
    contrastive.PAIRS = "overlap"
    # Pairs whose masks overlap less (soft intersection over union, 0 to 1) are none.
    contrastive.MIN_OVERLAP = 0.5
    # Among which slots of the other view: "image", those of the same image; "batch", of all images
    # that the process has in its batch.
    contrastive.NEGATIVES = "image"
    # Length of the vectors that are compared, which a network of two layers makes of the slots; 0:
    # the slots themselves, which then may not know left from right.
    contrastive.PROJECTION_DIM = 64

    # The masks, and where there is a head the classes, at other scales are the same after resizing;
    # at every pixel the surer of the two teaches the other.
    consistency = losses.CONSISTENCY = CfgNode()
    consistency.WEIGHT = 0.0
    # Factors on height and width, each another view.
    consistency.SCALES = [0.5]
    # Weight of the classes relative to the masks.
    consistency.CLASS_WEIGHT = 1.0


def _add_peak_losses(losses: CfgNode) -> None:
    # Focal loss of the PeakInitializer's map of the centres of things. Without it slots start
    # anywhere.
    losses.OBJECTNESS = CfgNode()
    losses.OBJECTNESS.WEIGHT = 0.0

    # Cross entropy of the PeakInitializer's map of classes.
    losses.CLASS_MAP = CfgNode()
    losses.CLASS_MAP.WEIGHT = 0.0


def _add_uncertainty_loss(losses: CfgNode) -> None:
    # Cross entropy of every pixel's class, the sum of p(class | slot) times mask over slots,
    # without the pixels that the model is not sure of: for labels that may be wrong, such as
    # pseudo labels.
    uncertainty = losses.UNCERTAINTY = CfgNode()
    uncertainty.WEIGHT = 0.0
    # How unsure the model is of a pixel, from 0 to 1. "entropy": of its classes and "no object",
    # over the logarithm of their number; "iteration_variance": variance between the predictions
    # after every iteration, summed over classes; "view_variance": the same between the image and
    # its mirror image, which costs a pass over it.
    uncertainty.MEASURE = "entropy"
    # Pixels above this ...
    uncertainty.THRESHOLD = 0.1
    # ... do not count ("drop"), or only as far as THRESHOLD / uncertainty ("down_weight").
    uncertainty.MODE = "drop"
    # Iterations in which the threshold falls from 1, where all pixels count, to THRESHOLD. At the
    # start of a training nothing is certain; 0 is for models that are trained already.
    uncertainty.WARM_UP = 1000


def _add_solver(cfg: CfgNode) -> None:
    # "AdamW", "Adam" or "SGD".
    cfg.SOLVER.OPTIMIZER = "AdamW"
    cfg.SOLVER.BETAS = (0.9, 0.999)
    # Parts that learn at another rate than BASE_LR: "<start of the parameters' names>=<factor>",
    # such as "decoders.1=2.0". MODEL.VIT.LAYER_DECAY comes on top.
    cfg.SOLVER.LR_FACTORS = []
    # Besides Detectron2's WarmupCosineLR and WarmupMultiStepLR: WarmupPolyLR, linear warm-up times
    # (1 - iteration / MAX_ITER) ** POLY_LR_POWER, never below POLY_LR_CONSTANT_ENDING, as DeepLab
    # (both keys are of Detectron2's DeepLab project); WarmupHalvingLR, linear warm-up times
    # 0.5 ** (iteration / HALVING_PERIOD), as Slot Attention was published.
    cfg.SOLVER.HALVING_PERIOD = 100000
    # CLIP_GRADIENTS.CLIP_TYPE also takes "full_model": one norm over all parameters.
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "full_model"
    # Autocast type when SOLVER.AMP.ENABLED: "bfloat16" (CPU and CUDA) or "float16" (CUDA only).
    cfg.SOLVER.AMP.DTYPE = "bfloat16"
    # SOLVER.CHECKPOINT_PERIOD counts iterations; 0: every CHECKPOINT_EPOCHS epochs.
    cfg.SOLVER.CHECKPOINT_PERIOD = 0
    cfg.SOLVER.CHECKPOINT_EPOCHS = 10
    # Periodic checkpoints that are kept (the best and the last are kept besides); at least 2, so
    # that a damaged file never leaves a run without a way back.
    cfg.SOLVER.CHECKPOINTS_KEPT = 3


def _add_monitoring(cfg: CfgNode) -> None:
    # Images that each process takes at once in evaluation.
    cfg.TEST.IMS_PER_BATCH = 16
    # TEST.EVAL_PERIOD counts iterations; 0: every EVAL_EPOCHS epochs, and always at the end.
    cfg.TEST.EVAL_EPOCHS = 10
    # The metric that chooses model_best, as the evaluator names it; higher is better.
    cfg.TEST.BEST_METRIC = "slots/ARI"
    # Inference: of two slots that claim the same pixels with a larger intersection over union than
    # this, the weaker one is left out (slotseg/ops/mask_nms.py); 1 keeps all slots. Only where
    # MODEL.HEAD.NAME is empty: a head says itself which slots stand for nothing.
    cfg.TEST.MASK_NMS_IOU = 1.0
    # Where the scored masks come from: "decoder"; "attention"; or "parents", the upper level of
    # NestedSlotAttention, each the sum of the decoder's masks of its sub-slots.
    cfg.TEST.MASK_SOURCE = "decoder"
    # Panoptic sets: besides panoptic quality also the slot scores (ARI, FG-ARI, mBO, ...), at the
    # size of the model's input. Things are the objects.
    cfg.TEST.SLOT_SCORES = False
    # Panoptic sets: also write the predictions as COCO panoptic PNG and JSON, for submission
    # servers, into OUTPUT_DIR/inference.
    cfg.TEST.EXPORT_COCO = False

    # In TensorBoard: a few images, their segments and what the decoders make of them.
    cfg.PICTURES = CfgNode()
    # Iterations between two looks; 0: once an epoch.
    cfg.PICTURES.PERIOD = 0
    # Images of the first test set (or, lacking one, the training set); 0: none.
    cfg.PICTURES.IMAGES = 4

    monitor = cfg.SLOT_MONITOR = CfgNode()
    # Iterations between two looks; 0: once an epoch.
    monitor.PERIOD = 0
    # Images of the first test set (or, lacking one, the training set) that are looked at.
    monitor.IMAGES = 16
    # Mean off-diagonal cosine similarity of slots above which a warning, or an error-level
    # message, says that slots are collapsing.
    monitor.SIMILARITY_WARNING = 0.5
    monitor.SIMILARITY_ERROR = 0.8


def _add_unsupervised(cfg: CfgNode) -> None:
    # Panoptic quality without labels, for models without a head on panoptic sets: the parts of the
    # training images are clustered, some clusters are things and the others stuff, and on the whole
    # test set each cluster gets the class that it fits best (slotseg/unsupervised).
    node = cfg.UNSUPERVISED = CfgNode()
    # Number of clusters; 0: off.
    node.CLUSTERS = 0
    # What is clustered: "slots" (with TEST.MASK_SOURCE decoder or attention); or, to compare with,
    # "features" (every pixel of a map of the backbone) or "colors" (every pixel of the image, by
    # colour and place).
    node.PARTS = "slots"
    # What a slot is known by: "slot", its vector, or "features", the mean of a map of the backbone
    # under its mask. Every dimension is scaled to unit variance over the training set.
    node.EMBEDDING = "features"
    # That map of the backbone; empty: MODEL.SLOTS.IN_FEATURE.
    node.FEATURE = ""
    # Training images that clusters are found on, the first ones of DATASETS.TRAIN (with several
    # processes the first ones of each process's part); 0: all.
    node.IMAGES = 0
    # Of every image at most so many parts are clustered, drawn at random.
    node.PARTS_PER_IMAGE = 256
    # How often k-means starts anew; the best is kept.
    node.RESTARTS = 3
    # A cluster is a thing if the region around a random pixel of it has on average at most this
    # share of the image ...
    node.THING_MAX_AREA = 0.05
    # ... and at most this share of its pixels lies in regions that touch a border of the image.
    node.THING_MAX_BORDER = 0.5
    # Segments of fewer pixels than this are left out, at the size of the result.
    node.MIN_AREA = 64
    # Where a kind has more clusters than classes: "majority", the rest go to the class they share
    # most pixels with (as CUPS does); "void", they have none (strictly one to one).
    node.EXTRA_CLUSTERS = "majority"


def _add_curriculum(cfg: CfgNode) -> None:
    # Easy images first: training draws its labelled images from the easiest so many, a share that
    # grows until all are in (slotseg/data/curriculum.py).
    node = cfg.CURRICULUM = CfgNode()
    # What makes an image difficult; empty: no curriculum. Of what the data set lists, crowds left
    # out: "segments", their number; "smallest_object", how small its smallest thing is;
    # "class_rarity", how few other images have its classes. "loss": the model's own loss on it,
    # measured anew now and then. "random": nothing, an order drawn once; the control that tells
    # what the growing number of images does by itself.
    node.DIFFICULTY = ""
    # How the share of images that are in grows from START_SHARE to 1: "linear", equally fast all
    # the time; "root", slower and slower, by as many images in every round through those that are
    # in (Platanios et al. 2019); "step", in STEPS equal steps, the last where all images come in.
    node.PACING = "linear"
    node.START_SHARE = 0.25
    node.STEPS = 4
    # The iteration from which all images are in; 0: this share of SOLVER.MAX_ITER.
    node.END_ITER = 0
    node.END = 0.5
    # "loss" only: iterations between two measurements, each a forward pass over all labelled
    # images, one by one and without gradients; 0: every EPOCHS epochs. All images are in until the
    # first one, and none is made once all are in for good.
    node.PERIOD = 0
    node.EPOCHS = 5


def _add_mean_teacher(cfg: CfgNode) -> None:
    # Mean Teacher (Tarvainen and Valpola 2017): a second model whose weights are the moving average
    # of the trained one's. It labels the unlabelled images (SEMI, PSEUDO_LABELS), and is the model
    # that is scored, kept as model_best and taken in inference (TEST.WEIGHTS_OF).
    node = cfg.MEAN_TEACHER = CfgNode()
    node.ENABLED = False
    # After every step: teacher = d * teacher + (1 - d) * student; without a warm-up d is DECAY
    # (0 <= DECAY < 1). The average looks back over about 1 / (1 - DECAY) steps.
    node.DECAY = 0.999
    # In step t (from 0) d is the smaller of DECAY and (1 + t) / (WARM_UP + t): a young teacher
    # forgets the random weights that it began with. 10: looks back over about a ninth of the steps
    # so far, until DECAY is reached; 2: over all of them, the plain mean; 1 or 0: no warm-up.
    node.WARM_UP = 10.0
    # Score the student besides, as "student/<score>"; it doubles the time of evaluations.
    node.EVALUATE_STUDENT = True

    # Which weights of a checkpoint that knows both are taken, in inference and as MODEL.WEIGHTS of
    # a new training: "teacher", "student", or "auto", the teacher where there is one.
    cfg.TEST.WEIGHTS_OF = "auto"


def _leaf_keys(node: CfgNode, prefix: str = "") -> list[str]:
    """All leaf keys of a config as dotted paths."""
    keys: list[str] = []
    for name, value in node.items():
        path = f"{prefix}{name}"
        keys += _leaf_keys(value, f"{path}.") if isinstance(value, CfgNode) else [path]
    return keys


@contextmanager
def _explain_config_errors(cfg: CfgNode, source: str) -> Iterator[None]:
    """Turn yacs' errors into one :class:`ConfigError` naming ``source`` and the nearest keys."""
    try:
        yield
    except FileNotFoundError as error:
        raise ConfigError(f"{source}: no such config file ({error.filename})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {_one_line(error)}") from error
    except (KeyError, AssertionError, ValueError, TypeError) as error:
        told = _one_line(error.args[0] if error.args else error)
        wrong = re.search(r"Non-existent (?:config )?key: (\S+)", told)
        if wrong is None:
            raise ConfigError(f"{source}: {told}") from error
        near = difflib.get_close_matches(wrong[1], _leaf_keys(cfg), n=3, cutoff=0.6)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ConfigError(f"{source}: unknown config key {wrong[1]}{hint}") from error


def _one_line(message: object) -> str:
    return " ".join(str(message).split())
