"""What an application writes for itself, as JSON text, exactly.

In reading order; each imports only what stands above it:

    models         objects of classes with fields: dataclasses, attrs, pydantic
    enrichers      what is added to the metadata of all that is written
    text           a payload as JSON text, and back
"""
