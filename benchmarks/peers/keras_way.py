"""The notebook way of report B: Keras' ImageDataGenerator and EfficientNetB2, as published, timed after warm-up.

Runs in an environment of its own (`benchmarks/peers/keras.txt`). Prints one JSON line.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import tensorflow as tf

folder, batch, steps, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
tf.config.threading.set_intra_op_parallelism_threads(threads)

generator = tf.keras.preprocessing.image.ImageDataGenerator(
    rescale=1 / 255,
    shear_range=0.2,
    width_shift_range=0.2,
    height_shift_range=0.2,
    rotation_range=30,
    horizontal_flip=True,
    zoom_range=0.2,
    fill_mode="nearest",
)
images = generator.flow_from_directory(folder, target_size=(128, 128), batch_size=batch, class_mode="binary", seed=0)

base = tf.keras.applications.EfficientNetB2(include_top=False, weights=None, input_shape=(128, 128, 3), pooling="avg")
hidden = tf.keras.layers.Dropout(0.3)(tf.keras.layers.Dense(128, activation="relu")(base.output))
hidden = tf.keras.layers.Dropout(0.2)(tf.keras.layers.Dense(64, activation="relu")(hidden))
model = tf.keras.Model(base.input, tf.keras.layers.Dense(1, activation="sigmoid")(hidden))
model.compile(optimizer=tf.keras.optimizers.Adam(1e-4), loss="binary_crossentropy")


class Clock(tf.keras.callbacks.Callback):
    """Times of the ends of steps: the first three are warm-up."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())


clock = Clock()
model.fit(images, steps_per_epoch=steps + 3, epochs=1, verbose=0, callbacks=[clock])
print(json.dumps({"images_per_second": batch * steps / (clock.ends[steps + 2] - clock.ends[2])}))
