import dev.langchain4j.model.embedding.EmbeddingModel;
import dev.langchain4j.model.embedding.onnx.allminilml6v2.AllMiniLmL6V2EmbeddingModel;
import io.debezium.ai.embeddings.EmbeddingsModelFactory;
import io.debezium.config.Configuration;
import io.debezium.config.Field;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/**
 * A model provider for Debezium's embeddings transform, by its service interface: MiniLM inside this process, from the
 * library and the jar that Debezium's own provider takes. Counts the texts into the file that EMBEDDED names.
 */
public final class CountedMiniLm implements EmbeddingsModelFactory {
    @Override
    public Field.Set getConfigFields() {
        return Field.setOf();
    }

    @Override
    public void configure(Configuration config) {}

    @Override
    public void validateConfiguration() {}

    @Override
    public EmbeddingModel getModel() {
        EmbeddingModel model = new AllMiniLmL6V2EmbeddingModel();
        Path counts = Path.of(System.getenv("EMBEDDED"));
        return texts -> {
            try {
                Files.writeString(counts, texts.size() + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
            } catch (IOException failure) {
                throw new UncheckedIOException(failure);
            }
            return model.embedAll(texts);
        };
    }
}
