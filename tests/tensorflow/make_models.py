"""Writes a small network in every form that TensorFlow's Keras has: ``make_models.py FOLDER``."""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

folder, keras = Path(sys.argv[1]), tf.keras
keras.utils.set_random_seed(7)
x = keras.Input((16, 16, 3), name="image")
y = keras.layers.Conv2D(16, 3, padding="same", strides=2, activation="relu")(x)
y = keras.layers.BatchNormalization()(y)
y = keras.layers.DepthwiseConv2D(3, padding="same")(y)
y = keras.layers.LeakyReLU()(y)
y = keras.layers.MaxPooling2D()(y)
y = keras.layers.Flatten()(y)
y = keras.layers.Dense(10)(y)
model = keras.Model(x, y)
model.export(str(folder / "saved"))
model.save(folder / "net.keras")
model.save(folder / "net.h5")
images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
np.savez(folder / "io.npz", x=images, y=np.asarray(model(images)))
