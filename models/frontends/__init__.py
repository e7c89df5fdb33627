"""The mel front-ends of public sound models, each exactly as the model was trained with it."""
